// Rows of x laid side by side, as the inner loops read them.
#pragma once

#include "forward/fma.h"

namespace quantmill::QM_LEVEL {

// W columns of N rows; a store is W wide, so the next one overwrites what it has too many, and CUT cuts it.
template <int N, bool CUT>
QM_INLINE void pack_columns(const float *const (&from)[N], std::int64_t j, float *packed) {
    I tile[W];
    QM_UNROLL
    for (int i = 0; i < W; ++i) std::memcpy(&tile[i], from[i < N ? i : N - 1] + j, sizeof(I));
    transpose(tile);
    QM_UNROLL
    for (int i = 0; i < W; ++i) std::memcpy(packed + (j + i) * N, &tile[i], CUT ? N * sizeof(float) : sizeof(I));
}

// Packs 1 to N rows, `stride` floats apart, as [k][N]. A row that is not there repeats the last: nothing reads it.
template <int N>
QM_INLINE void pack_rows(const float *x, std::int64_t stride, int rows, std::int64_t k, float *packed) {
    const float *from[N];
    for (int i = 0; i < N; ++i) from[i] = x + (i < rows ? i : rows - 1) * stride;
    std::int64_t j = 0;
    if (N <= W) {
        for (; j + 2 * W <= k; j += W) pack_columns<N, false>(from, j, packed);
        for (; j + W <= k; j += W) pack_columns<N, true>(from, j, packed);
    }
    for (; j < k; ++j) {
        for (int i = 0; i < N; ++i) packed[j * N + i] = from[i][j];
    }
}

}  // namespace quantmill::QM_LEVEL
