// How an importance vector weighs errors.
#pragma once

#include "common/simd.h"

namespace quantmill::QM_LEVEL {

// w[j]: how much the error of x[j] counts.
template <int N>
QM_INLINE void weigh(const Batch &batch, int first, V variance, const V *x, V *w) {
    load_lanes(batch.importance, first, N, w);
    for (int j = 0; j < N; ++j) w[j] = w[j] * square_root(variance + x[j] * x[j]);
}

}  // namespace quantmill::QM_LEVEL
