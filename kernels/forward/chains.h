// The inner loop of the f32 arithmetic: a tile of outputs, each one chain of fma in the order of k.
#pragma once

#include "forward/gemm.h"
#include "forward/rows_side_by_side.h"

namespace quantmill::QM_LEVEL {

// A tile is ROWS rows of x by TILE columns of out: enough independent chains to hide the latency of fma, and no more than registers
// hold beside TILE weights.
#if defined(__AVX512F__)
constexpr int ROWS = 12, VECTORS = 2;
#elif defined(__AVX2__)
constexpr int ROWS = 6, VECTORS = 2;
#elif defined(__aarch64__)
constexpr int ROWS = 6, VECTORS = 4;
#else
constexpr int ROWS = 4, VECTORS = 2;
#endif
constexpr int TILE = VECTORS * W;
constexpr std::int64_t LAST = 48;  // steps before a tile's end at which its place in out is asked for

// M rows of x, packed [k][ROWS], times TILE columns of a panel [k][PANEL]. The chains begin at zero, or go on from what is in out.
template <int M>
QM_OUTLINE void chains(const float *__restrict x, const float *__restrict w, std::int64_t k, float *__restrict out,
                       std::int64_t stride, bool begin) {
    V sum[M][VECTORS];
    QM_UNROLL
    for (int i = 0; i < M; ++i) {
        QM_UNROLL
        for (int j = 0; j < VECTORS; ++j) sum[i][j] = begin ? V{} : load(out + i * stride + j * W);
    }
    const auto go_on = [&](std::int64_t steps) {
        QM_ROLLED
        for (; steps > 0; --steps) {
            V weight[VECTORS];
            QM_UNROLL
            for (int j = 0; j < VECTORS; ++j) weight[j] = load(w + j * W);
            QM_UNROLL
            for (int i = 0; i < M; ++i) {
                const V value = broadcast(x[i]);
                QM_UNROLL
                for (int j = 0; j < VECTORS; ++j) sum[i][j] = fma(value, weight[j], sum[i][j]);
            }
            x += ROWS;
            w += PANEL;
        }
    };
    const std::int64_t last = k < LAST ? k : LAST;
    go_on(k - last);
    QM_UNROLL
    for (int i = 0; i < M; ++i) {
        __builtin_prefetch(out + i * stride, 1);
        __builtin_prefetch(out + i * stride + TILE - 1, 1);
    }
    go_on(last);
    QM_UNROLL
    for (int i = 0; i < M; ++i) {
        QM_UNROLL
        for (int j = 0; j < VECTORS; ++j) store(out + i * stride + j * W, sum[i][j]);
    }
}

using Chains = void (*)(const float *, const float *, std::int64_t, float *, std::int64_t, bool);

// By the number of rows, 1 to ROWS.
// clang-format off
static constexpr Chains chains_of[] = {
    nullptr, chains<1>, chains<2>, chains<3>, chains<4>,
#if defined(__AVX512F__)
    chains<5>, chains<6>, chains<7>, chains<8>, chains<9>, chains<10>, chains<11>, chains<12>,
#elif defined(__AVX2__) || defined(__aarch64__)
    chains<5>, chains<6>,
#endif
};
// clang-format on
static_assert(sizeof chains_of / sizeof *chains_of == ROWS + 1, "a function for every number of rows");

// `rows` rows times the first `valid` columns of one panel.
QM_INLINE void multiply_panel(const float *x, int rows, const float *w, std::int64_t k, float *out, std::int64_t stride, int valid,
                              bool begin) {
    const Chains run = chains_of[rows];
    int column = 0;
    for (; column + TILE <= valid; column += TILE) run(x, w + column, k, out + column, stride, begin);
    if (column == valid) return;
    // Columns past the last: the panel is padded, out is not.
    float edge[ROWS * TILE];
    const std::size_t bytes = sizeof(float) * std::size_t(valid - column);
    for (int i = 0; i < rows && !begin; ++i) std::memcpy(edge + i * TILE, out + i * stride + column, bytes);
    run(x, w + column, k, edge, TILE, begin);
    for (int i = 0; i < rows; ++i) std::memcpy(out + i * stride + column, edge + i * TILE, bytes);
}

}  // namespace quantmill::QM_LEVEL
