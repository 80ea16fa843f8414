// The kernels of the forward pass that one level has. All of them take arrays that were checked; where two arrays may be one, it says
// so. Nothing here starts threads: matmul.cpp and the binding share rows between them.
#pragma once

#include <cstdint>

#include "forward/gemm.h"
#include "forward/recurrent/recurrent.h"

namespace quantmill {

struct Packing {
    void (*interleave)(const std::uint32_t *rows, int valid, std::int64_t stride, std::int64_t words, std::uint32_t *panel);
    void (*split)(const float *from, std::int64_t count, std::uint16_t *high, std::uint16_t *low);
};

// Row-wise work; n is the length of a row. Row sums are 16 partial sums, of the columns j % 16 = 0 .. 15 in ascending order, then
// added as a tree: i + 8, i + 4, i + 2, i + 1.
struct Rows {
    // Each of the `groups` equal parts of a row by itself. out may be x; weight and bias may be null.
    void (*rms_norm)(const float *x, const float *weight, float *out, std::int64_t rows, std::int64_t n, std::int64_t groups, float eps);
    void (*l2_norm)(const float *x, float *out, std::int64_t rows, std::int64_t n, float eps, bool inside);
    void (*layer_norm)(const float *x, const float *weight, const float *bias, float *out, std::int64_t rows, std::int64_t n,
                       std::int64_t groups, float eps);
    void (*softmax)(float *x, std::int64_t rows, std::int64_t n);
    void (*add)(const float *a, const float *b, float *out, std::int64_t count);
    void (*scale)(float *x, float factor, std::int64_t count);
    void (*add_scaled)(float *acc, const float *y, float factor, std::int64_t count);  // acc += factor * y, product rounded
    // acc[j] += x[i][j] * x[i][j], product rounded, for the rows i in turn, `stride` floats apart; j < count
    void (*add_squares)(float *acc, const float *x, std::int64_t rows, std::int64_t stride, std::int64_t count);
    void (*rope)(float *x, const float *cos, const float *sin, std::int64_t heads, std::int64_t dims, std::int64_t half, bool neox);
};

enum class Activation { silu, gelu, gelu_erf, gelu_quick, relu, relu_squared, sigmoid, tanh, softplus, exp };
constexpr const char *ACTIVATIONS[] = {"silu", "gelu", "gelu_erf", "gelu_quick", "relu", "relu_squared", "sigmoid", "tanh",
                                       "softplus", "exp"};

// Of single elements; out may be either operand.
struct Gates {
    void (*activate)(Activation kind, const float *x, float *out, std::int64_t count);
    void (*gate)(Activation kind, const float *gate, const float *up, float *out, std::int64_t count);  // activation(gate) * up
    // g / (1 + exp(-alpha g)) (u + shift); g is at most the limit, u within it
    void (*clamped_gate)(const float *gate, const float *up, float *out, std::int64_t count, float alpha, float limit, float shift);
    void (*soft_cap)(float *x, float cap, std::int64_t count);  // cap tanh(x / cap)
    void (*clamp)(float *x, float low, float high, std::int64_t count);
    void (*multiply)(const float *a, const float *b, float *out, std::int64_t count);
};

// Of rows of logits, in double. Sums are 8 partial sums of the columns j % 8, added as a tree: i + 4, i + 2, i + 1.
struct Scores {
    double (*nll)(const float *logits, std::int64_t n, std::int64_t target, std::int32_t *top);
    double (*kld)(const float *base, const float *logits, std::int64_t n);
};

struct Attention {
    std::int64_t sequence, heads, kv_heads, dims, value_dims;
    std::int64_t window, chunk;  // 0: none
    float scale, soft_cap;       // 0: no cap
    const float *q, *k, *v;
    const float *sinks, *slopes;  // of each head, or null
    float *out;
    float *packed;  // packed_floats() of every (sequence, kv head)
};

struct Attend {
    std::int64_t block;  // query rows of one piece of work
    std::int64_t (*packed_floats)(const Attention &of);
    std::int64_t (*scratch_floats)(const Attention &of);
    void (*pack)(const Attention &of, std::int64_t sequence, std::int64_t kv_head);
    void (*run)(const Attention &of, std::int64_t sequence, std::int64_t head, std::int64_t block, float *scratch);
};

// fma on registers alone: `steps` rounds of them, and how many operations that was.
using Peak = std::int64_t (*)(std::int64_t steps, float *sink);

struct Forward {
    const Packing *packing;
    const Product *f32, *bf16x2;
    const Rows *rows;
    const Gates *gates;
    const Scores *scores;
    const Attend *attend;
    const Peak *peak;
    const Convolve *convolve;
    const ScanKernel *scan;
    const DeltaKernel *delta;
};

}  // namespace quantmill
