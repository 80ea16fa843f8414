// The bf16x2 arithmetic on tiles: eight registers of 16 rows of 64 bytes, whose one instruction, TDPBF16PS, is the arithmetic's
// definition. `Tiles` is the processor's (gemm_amx.cpp) or a model of it in software (gemm_tiles_model.cpp), so that what surrounds
// the instructions is tested on any machine.
#pragma once

#include "forward/gemm.h"
#include "forward/split.h"

namespace quantmill::QM_LEVEL {

constexpr int TILE = 16;         // rows of a tile, and floats in a row
constexpr int ROWS = 2 * TILE;   // a product's tile of outputs is 2 by 2 tiles: each that is loaded is used twice
constexpr int SLICE = 512;       // of k: a slice of a panel stays in the first cache, one of all rows in the second
constexpr int TILE_BYTES = TILE * 64;
static_assert(PANEL == 2 * TILE && SPLIT_K == 32, "a panel is two tiles wide, a block one tile deep");

static std::int64_t packed_bytes(std::int64_t k) { return padded(k) * ROWS * 4; }

// [slice][panel][block of SPLIT_K][high, low][2][TILE][SPLIT_K] bfloat16; rows and columns that are not there are zeros.
static void pack(const float *x, std::int64_t rows, std::int64_t k, std::uint8_t *packed, std::int64_t panel, std::int64_t panels) {
    const std::int64_t whole = padded(k);
    for (std::int64_t j = 0; j < whole; j += SPLIT_K) {
        const std::int64_t begin = j / SLICE * SLICE, slice = whole - begin < SLICE ? whole - begin : SLICE;
        std::uint8_t *to = packed + (begin * panels + slice * panel + j - begin) * ROWS * 4;
        for (int i = 0; i < ROWS; ++i, to += SPLIT_K * 2) {
            for (int lane = 0; lane < SPLIT_K; lane += W) {
                const std::int64_t left = i < rows ? k - j - lane : 0;
                float v[W] = {};
                for (int n = 0; n < W && n < left; ++n) v[n] = x[i * k + j + lane + n];
                V value;
                std::memcpy(&value, v, sizeof v);
                const Parts parts = split_parts(value);
                const H high = __builtin_convertvector(parts.high, H), low = __builtin_convertvector(parts.low, H);
                std::memcpy(to + lane * 2, &high, sizeof high);
                std::memcpy(to + 2 * TILE_BYTES + lane * 2, &low, sizeof low);
            }
        }
    }
}

// Tiles 0 to 3 are the outputs (row by row), 4 and 5 rows of x, 6 and 7 columns of weights.
template <class Tiles>
QM_INLINE void load_weights(Tiles &tiles, const std::uint8_t *w) {
    tiles.template load<6>(w, PANEL * 4);
    tiles.template load<7>(w + 64, PANEL * 4);
}

template <class Tiles>
QM_INLINE void dots(Tiles &tiles, const std::uint8_t *x) {
    tiles.template load<4>(x, 64);
    tiles.template dot<0, 4, 6>();
    tiles.template dot<1, 4, 7>();
    tiles.template load<5>(x + TILE_BYTES, 64);
    tiles.template dot<2, 5, 6>();
    tiles.template dot<3, 5, 7>();
}

// ROWS rows times one panel over a slice; out's rows are `stride` bytes apart.
template <class Tiles>
QM_INLINE void multiply_slice(Tiles &tiles, const std::uint8_t *x, const std::uint8_t *w, std::int64_t blocks, int parts, float *out,
                              std::int64_t stride, bool begin) {
    std::uint8_t *corner = reinterpret_cast<std::uint8_t *>(out);
    if (begin) {
        tiles.template zero<0>();
        tiles.template zero<1>();
        tiles.template zero<2>();
        tiles.template zero<3>();
    } else {
        tiles.template load<0>(corner, stride);
        tiles.template load<1>(corner + 64, stride);
        tiles.template load<2>(corner + TILE * stride, stride);
        tiles.template load<3>(corner + TILE * stride + 64, stride);
    }
    for (; blocks > 0; --blocks) {
        load_weights(tiles, w);
        dots(tiles, x);
        dots(tiles, x + 2 * TILE_BYTES);
        if (parts == 2) {
            load_weights(tiles, w + 2 * TILE_BYTES);
            dots(tiles, x);
        }
        x += 4 * TILE_BYTES;
        w += parts * 2 * TILE_BYTES;
    }
    tiles.template store<0>(corner, stride);
    tiles.template store<1>(corner + 64, stride);
    tiles.template store<2>(corner + TILE * stride, stride);
    tiles.template store<3>(corner + TILE * stride + 64, stride);
}

template <class Tiles>
static void multiply(const Multiplication &of, std::int64_t first, std::int64_t last) {
    Tiles tiles;
    const int parts = of.form == Form::split ? 2 : 1;
    const std::int64_t bytes = panel_bytes(of.form, of.k), whole = padded(of.k), panels = (of.m + ROWS - 1) / ROWS;
    alignas(64) float edge[ROWS * PANEL];
    for (std::int64_t begin = 0; begin < whole || begin == 0; begin += SLICE) {
        const std::int64_t k = whole - begin < SLICE ? whole - begin : SLICE;
        for (std::int64_t panel = first; panel < last; ++panel) {
            const std::uint8_t *w = of.weights + panel * bytes + begin * PANEL * 2 * parts;
            const std::int64_t left = of.n - panel * PANEL, columns = left < PANEL ? left : PANEL;
            for (std::int64_t tile = 0; tile < panels; ++tile) {
                const std::uint8_t *x = of.x + (begin * panels + k * tile) * ROWS * 4;
                float *out = of.out + tile * ROWS * of.n + panel * PANEL;
                const std::int64_t below = of.m - tile * ROWS, rows = below < ROWS ? below : ROWS;
                if (rows == ROWS && columns == PANEL) {
                    multiply_slice(tiles, x, w, k / SPLIT_K, parts, out, of.n * 4, begin == 0);
                    continue;
                }
                const std::size_t row_bytes = sizeof(float) * std::size_t(columns);
                std::memset(edge, 0, sizeof edge);
                for (std::int64_t i = 0; i < rows && begin; ++i) std::memcpy(edge + i * PANEL, out + i * of.n, row_bytes);
                multiply_slice(tiles, x, w, k / SPLIT_K, parts, edge, PANEL * 4, begin == 0);
                for (std::int64_t i = 0; i < rows; ++i) std::memcpy(out + i * of.n, edge + i * PANEL, row_bytes);
            }
        }
    }
}

}  // namespace quantmill::QM_LEVEL
