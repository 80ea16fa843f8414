// Inference on quantized blocks: how weights lie in memory once repacked, and the kernels of one level that work on them.
//
// Repacked, sixteen rows lie side by side (a panel), so that one vector holds the same weights of sixteen rows and no sum ever
// runs across a vector. Every type is held exactly as one of a few forms: codes of 2 to 8 bits in bit planes, a table or an offset
// that turns a code into a small integer, and scales for each 16 or 32 weights of a row. Activations are integers of 8 bits, or of
// 16 bits in two planes of 8. docs/kernels.md tells why.
#pragma once

#include <cstddef>
#include <cstdint>

#include "infer/parts/recurrent.h"

namespace quantmill::infer {

constexpr int ROWS = 16;   // of a panel
constexpr int GROUP = 32;  // weights of a row that share their activations' scale
constexpr int MOST_TOKENS = 16;  // of a tile, on any level

enum class Scale {
    half,   // fp16 for each group of 32 (and an fp16 offset)
    single,  // float for each group of 32
    super,  // float for each 256 weights, times an int8 for each group; or two fp16, times an int8 and, for the offset, a uint8
    none,   // the weights are floats
};

// Where a block of the file has its bits: each has a function in decode.cpp and a row in forms.cpp, and neither can be missing.
enum class Layout {
    q8_0, q4_0, q4_1, q5_0, q5_1, iq4_nl, mxfp4, q2_0, q1_0,  // blocks of 32, 64 and 128 weights
    q2_k, q3_k, q4_k, q5_k, q6_k, iq4_xs, iq3_s, iq3_xxs, iq2_s, iq2_xs, iq2_xxs, iq1_m, iq1_s, tq1_0, tq2_0,  // of 256
    floats,  // no blocks
};

// Of what 256 weights share: the types with offsets have halves in the file, of others some have a multiple of one.
static constexpr int super_bytes(bool offset) { return offset ? 2 : 4; }

// How one type is held.
struct Form {
    const char *type;  // ggml's name
    Layout layout;
    int block, size;   // weights and bytes of a block in the file
    int bits;          // of a code: 2, 3, 4, 5, 6, 8; floats: 16 or 32
    int group;         // weights that share a scale: 16 or 32
    Scale scale;
    bool offset;  // w = scale * value + offset
    int bias;     // value = code - bias, where there is no table
    const std::int8_t *values;  // of the codes, or null
};

// A type's form, null when there are no kernels for it.
const Form *find_form(const char *type);
// All of them, closed by one without a type.
extern const Form forms[];

// The integers in one block: weight j is d * scale[j / group] * value[j] + dmin * min[j / group].
struct Decoded {
    std::int8_t value[256];
    std::int8_t scale[16];
    std::uint8_t min[16];
    float d, dmin;
};

// Weights of one tensor. Rows that fill up the last panel are zeros.
struct Weights {
    const Form *form;
    std::int64_t rows, cols;
    const std::uint8_t *data;  // panels, or the file's blocks
    bool repacked;

    std::int64_t panels() const { return (rows + ROWS - 1) / ROWS; }
    std::int64_t groups() const { return cols / GROUP; }
};

std::int64_t row_bytes(const Form &form, std::int64_t cols);    // in the file
std::int64_t head_bytes(const Form &form, std::int64_t cols);   // a panel's scales
std::int64_t panel_bytes(const Form &form, std::int64_t cols);  // scales and codes; a multiple of 64
int tile_bytes_per_col(const Form &form);                       // of the buffer that multiply() unpacks a panel into

// Activations of several tokens, made for one of the two products. For a tile of T tokens and each group of 32 columns:
// `planes` times 8 steps of T times 4 bytes (4 steps of 8, or one of 32, where products take so many at once); then, in arrays of
// their own, T scales, and T sums of what the integers stand for, of the two halves and of all. floats are for weights that are
// floats: each column's T values.
struct Activations {
    std::int64_t tokens, cols;
    std::int64_t tile;  // tokens of a tile; 1: signed, for one token or for weights that are not repacked
    int planes;
    std::uint8_t *bytes;
    float *scales;
    float *sums;          // three for a group
    std::int32_t *counts;  // the integers' sums, likewise; only where tile is 1
    float *floats;

    std::int64_t tiles() const { return (tokens + tile - 1) / tile; }
    std::int64_t groups() const { return cols / GROUP; }
};

// The sixteen keys of a block of the cache lie side by side: fp16 [block][dimension][16]. Values are fp16 [position][dimension].
struct Heads {
    const std::uint16_t *keys, *values;
    std::int64_t dims, value_dims;
    float scale;         // of the scores
    float cap;           // they go no further than this, by a tangent; 0: no cap
    const float *sinks;  // a score of each head that no value belongs to, or null
};

// What a feed-forward part makes of its gate g and its other half u, of 1 where there is none; and what other gates let through.
struct Gate {
    // clamped: g / (1 + exp(-alpha g)) * (u + 1) of values that have a limit
    enum { silu, gelu, relu_squared, clamped, sigmoid } kind;
    float alpha, limit;
};

struct InferKernels {
    int tokens;  // of a tile in multiply()
    // Panels [first, last) from rows of the file.
    void (*pack)(const Form &, std::int64_t rows, std::int64_t cols, const std::uint8_t *src, std::uint8_t *dst,
                 std::int64_t first, std::int64_t last);
    // Tiles [first, last) of `a` from rows of x; integers, or floats where a.planes is 0.
    void (*quantize)(const float *x, std::int64_t stride, const Activations &a, std::int64_t first, std::int64_t last);
    // out[token][row] of the rows of panels [first, last), overwritten or added to. `buffer` is the caller's, aligned to 64:
    // 2 * tile_bytes_per_col * cols bytes.
    void (*multiply)(const Weights &, const Activations &a, float *out, std::int64_t stride, bool add, std::int64_t first,
                     std::int64_t last, std::uint8_t *buffer);
    // The same for one token.
    void (*multiply_one)(const Weights &, const Activations &a, float *out, bool add, std::int64_t first, std::int64_t last);
    // The same on the file's blocks; a.tile is 1.
    void (*multiply_plain)(const Weights &, const Activations &a, float *out, std::int64_t stride, bool add, std::int64_t first,
                           std::int64_t last, std::uint8_t *buffer);
    void (*norm)(const float *x, const float *weight, float eps, std::int64_t n, float *out);
    // By the deviation from the mean.
    void (*layer_norm)(const float *x, const float *weight, float eps, std::int64_t n, float *out);
    // Pairs (i, i + half) or (2i, 2i + 1) of one head are turned by angles of which cosines and sines are given.
    void (*rotate)(float *x, const float *cosines, const float *sines, std::int64_t half, bool halves_apart);
    void (*gate)(const float *gate, const float *up, float *out, std::int64_t n, const Gate &how);  // up may be null
    // x * scale, which goes no further than `cap` where that is not 0.
    void (*limit)(float *x, std::int64_t n, float scale, float cap);
    // Attention of `n` <= tokens queries (rows of q, `stride` apart) at the positions from `position` on (all at that one where
    // `same`: a head each), each seeing the keys from its position - window on (window 0: all). scores: (past + 16) * tokens
    // floats.
    void (*attend)(const Heads &, const float *q, std::int64_t stride, std::int64_t n, std::int64_t position, bool same,
                   std::int64_t window, float *out, std::int64_t out_stride, float *scores);
    void (*store_key)(const float *key, std::int64_t dims, std::uint16_t *keys, std::int64_t position);
    void (*store_value)(const float *value, std::int64_t dims, std::uint16_t *values, std::int64_t position);
    // All of some memory, a multiple of 256 bytes, read and nothing else done: what generation is measured against.
    std::int32_t (*read)(const std::uint8_t *from, std::int64_t bytes);
    const RecurrentKernels *recurrent;
};

// The kernels for a level of common/levels.h: the fastest of its own or lower features that this processor runs, and their name.
struct Chosen {
    const char *name;
    const InferKernels &kernels;
};
Chosen infer_kernels(const char *level);
#if defined(__x86_64__)
// Those whose product is on tiles of bytes, and those they equal bit for bit.
extern const InferKernels tile_kernels, &vnni_kernels;
#endif

}  // namespace quantmill::infer
