// The product of activations and weights, out = x * w^T, as the levels share it: how weights and activations are laid out, and the
// two functions an arithmetic consists of. docs/forward.md defines both arithmetics.
#pragma once

#include <cstdint>

namespace quantmill {

constexpr int PANEL = 32;     // rows of the weights that lie side by side in a panel: columns of `out`
constexpr int SPLIT_K = 32;   // columns of k that the bf16x2 arithmetic sums before it adds to the accumulator

// How a panel holds its PANEL rows of weights. f32 is [k][PANEL] floats. The others keep two neighbours in k side by side, as the
// tiles of AMX want them: [k / 2][PANEL][2] 16-bit values, k padded with zeros to whole blocks of SPLIT_K; `split` has for every
// block of SPLIT_K first the block's high parts, then its low parts.
enum class Form { f32, f16, bf16, split };

static inline std::int64_t padded(std::int64_t k) { return (k + SPLIT_K - 1) / SPLIT_K * SPLIT_K; }

static inline std::int64_t panel_bytes(Form form, std::int64_t k) {
    if (form == Form::f32) return k * PANEL * 4;
    return padded(k) * PANEL * (form == Form::split ? 4 : 2);
}

struct Multiplication {
    const std::uint8_t *x;  // rows packed by Product::pack
    std::int64_t m;         // rows of x
    std::int64_t k;
    Form form;
    const std::uint8_t *weights;  // panels
    std::int64_t n;               // rows of the weights; also the row length of out
    float *out;
};

// One arithmetic at one level.
struct Product {
    int rows;        // rows of x in a packed panel
    int block_rows;  // rows of x, a multiple of `rows`, that are multiplied at a time: what fits into the second cache
    bool flushes;    // whether `multiply` runs with denormals flushed to zero, on input and output
    std::int64_t (*packed_bytes)(std::int64_t k);  // of a panel of x
    // Packs 1 to `rows` rows, panel `panel` of `panels`, to its places in what all panels share.
    void (*pack)(const float *x, std::int64_t rows, std::int64_t k, std::uint8_t *packed, std::int64_t panel, std::int64_t panels);
    void (*multiply)(const Multiplication &, std::int64_t first, std::int64_t last);        // panels [first, last) of weights
};

}  // namespace quantmill
