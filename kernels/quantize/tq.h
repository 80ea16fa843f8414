// What the ternary types share: one fp16 scale, the largest magnitude, and weights rounded to -1, 0 or 1 of it.
#pragma once

#include "common/simd.h"

namespace quantmill::QM_LEVEL {

constexpr int SUPER = 256;

QM_INLINE V load(const float *from) {
    V v;
    std::memcpy(&v, from, sizeof v);
    return v;
}

// Unlike sums, the largest magnitude is the same in any order, so lanes can be the weights of one block. Magnitudes are ordered as
// their bits are, and integers' maximum is one instruction.
QM_INLINE float largest_magnitude(const float *x) {
    I most = {};
    QM_UNROLL
    for (int j = 0; j < SUPER; j += W) most = greater(most, bits(absolute(load(x + j))));
    std::int32_t lanes[W], largest = 0;
    std::memcpy(lanes, &most, sizeof lanes);
    for (int i = 0; i < W; ++i) largest = largest > lanes[i] ? largest : lanes[i];
    float magnitude;
    std::memcpy(&magnitude, &largest, sizeof magnitude);
    return magnitude;
}

// 0, 1 or 2 for each of W weights; 1 where the inverse is infinite or the product NaN.
QM_INLINE I trits(const float *x, float inverse) { return (round_away(load(x) * inverse) + 1) & 0xff; }

// The lowest byte of every lane.
QM_INLINE void store_lane_bytes(I v, std::uint8_t *to) {
    typedef std::uint8_t Bytes __attribute__((vector_size(W)));
    const Bytes bytes = __builtin_convertvector(v & 0xff, Bytes);
    std::memcpy(to, &bytes, sizeof bytes);
}

}  // namespace quantmill::QM_LEVEL
