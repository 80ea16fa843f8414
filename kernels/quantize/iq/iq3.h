// What IQ3_XXS and IQ3_S share around the search: super-blocks one after another, their weights and signs, and their 4-bit scales.
#pragma once

#include "quantize/iq/iq3_search.h"

namespace quantmill::QM_LEVEL {

constexpr int SUPER = 256, GROUPS = SUPER / GROUP;

// One super-block. importance is null where none is given.
struct Super {
    const float *x, *importance;
    std::uint8_t *to;
    float variance;  // twice the mean square
    std::int64_t row;
};

// Calls work(super) for each super-block in order. Only the sums of squares, which must be added in order, run in lanes.
template <int SIZE, class Work>
QM_INLINE void for_supers(const float *src, std::uint8_t *dst, std::int64_t rows, std::int64_t cols, const float *importance,
                          Work work) {
    for_batches<SUPER, SIZE>(src, dst, rows, cols, importance, [&](const Batch &batch) {
        V sum = {};
        for (int first = 0; first < SUPER; first += GROUP) {
            V x[GROUP];
            load_lanes(batch.src, first, GROUP, x);
            for (int j = 0; j < GROUP; ++j) sum += x[j] * x[j];
        }
        const V variance = 2.f * sum / float(SUPER);
        for (int i = 0; i < batch.valid; ++i) {
            work(Super{batch.src[i], batch.importance[i], batch.dst[i], variance[i], batch.row[i]});
        }
    });
}

// Fills a group's weights and magnitudes (not `largest`) and returns its signs, bit j for weight j.
QM_INLINE std::uint32_t prepare(const Super &super, int first, Group &group) {
    const float *x = super.x + first;
    if (super.importance) {
        const float *importance = super.importance + first;
        for (int j = 0; j < GROUP; ++j) group.weight[j] = importance[j] * __builtin_sqrtf(super.variance + x[j] * x[j]);
    } else {
        for (int j = 0; j < GROUP; ++j) group.weight[j] = x[j] * x[j];
    }
    for (int j = 0; j < GROUP; ++j) group.root[j] = __builtin_sqrtf(group.weight[j]);
    for (int j = 0; j < GROUP; ++j) group.x[j] = x[j] >= 0 ? x[j] : -x[j];
    std::uint32_t signs = 0;
    for (int j = 0; j < GROUP; ++j) signs |= std::uint32_t(x[j] >= 0 ? 0 : 1) << j;
    return signs;
}

QM_INLINE float largest_of(const float *x) {
    V most;
    std::memcpy(&most, x, sizeof most);
    for (int j = W; j < GROUP; j += W) {
        V v;
        std::memcpy(&v, x + j, sizeof v);
        most = greater(most, v);
    }
    float largest = most[0];
    for (int i = 1; i < W; ++i) largest = largest > most[i] ? largest : most[i];
    return largest;
}

// The multiple 0 to 15 for which (2 * multiple + 1) / inverse is nearest to the scale.
QM_INLINE unsigned multiple_of(float scale, float inverse) {
    const int n = nearest_int(splat(0.5f * (inverse * scale - 1)))[0];
    return unsigned(n < 0 ? 0 : n > 15 ? 15 : n);
}

}  // namespace quantmill::QM_LEVEL
