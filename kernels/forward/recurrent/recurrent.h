// Layers that carry a state from one position to the next. Every sequence begins with a state of zeros. What a piece of work computes
// is lanes that do not meet: channels of a convolution, columns of a head's values; so bits depend neither on tiles nor on threads.
#pragma once

#include <cstdint>

namespace quantmill {

// out[t, c] = the chain of weight[i, c] * x[t - width + 1 + i, c] over i, plus bias[c]
struct Convolution {
    std::int64_t sequence, channels, width;
    const float *x, *weight, *bias;  // weight is [width][channels]; bias may be null
    float *out;
};

// A head's state is [states][dims]: state = state * exp(dt a) + b (x dt), out = chain of state c over the states, plus x d.
struct Scan {
    std::int64_t sequence, heads, dims, groups, states;
    bool wide;  // a is [heads][states], and dims and groups are 1; else it is [heads]
    const float *x, *dt, *a, *b, *c, *d;  // dt before softplus; d may be null
    float *out;
};

// A head's state is [key_dims][value_dims]: state *= exp(g); state += k (v - state^T k) beta; out = state^T q * scale.
struct Delta {
    std::int64_t sequence, key_heads, heads, key_dims, value_dims;
    bool interleaved;  // head h has key head h / (heads / key_heads), else h % key_heads
    bool wide;         // g is of each key dim
    float scale;
    const float *q, *k, *v, *g, *beta;
    float *out;
};

using Convolve = void (*)(const Convolution &of, std::int64_t first, std::int64_t last);  // rows

// Of a head of a sequence: `lanes` of its columns, those of one tile; of heads, where a is wide.
struct ScanKernel {
    std::int64_t lanes;
    std::int64_t (*scratch_floats)(const Scan &of);
    void (*run)(const Scan &of, std::int64_t sequence, std::int64_t head, std::int64_t tile, float *scratch);
};

struct DeltaKernel {
    std::int64_t lanes;
    std::int64_t (*scratch_floats)(const Delta &of);
    void (*run)(const Delta &of, std::int64_t sequence, std::int64_t head, std::int64_t tile, float *scratch);
};

}  // namespace quantmill
