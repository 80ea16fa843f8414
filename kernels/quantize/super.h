// What the formats with super-blocks of 256 weights share.
#pragma once

#include "quantize/weights.h"

namespace quantmill::QM_LEVEL {

constexpr int SUPER = 256;

// Sum of the squares of x, in order.
template <int N>
QM_INLINE V sum_of_squares(const V *x) {
    V sum = {};
    for (int j = 0; j < N; ++j) sum += x[j] * x[j];
    return sum;
}

template <int N>
QM_INLINE V sum_of(const V *x) {
    V sum = {};
    for (int j = 0; j < N; ++j) sum += x[j];
    return sum;
}

// A super-block's quants of 2 bits: byte l of each half of 128 weights holds weights l, l + 32, l + 64 and l + 96.
QM_INLINE void pack_crumbs(const I *q, I *words) {
    for (int k = 0; k < 16; ++k) {
        const I *half = q + k / 8 * 128 + k % 8 * 4;
        I word = {};
        for (int byte = 0; byte < 4; ++byte) {
            for (int part = 0; part < 4; ++part) word |= (half[32 * part + byte] & 3) << (8 * byte + 2 * part);
        }
        words[k] = word;
    }
}

// A super-block's quants of 4 bits: byte l of each 64 weights holds weights l and l + 32.
QM_INLINE void pack_nibbles(const I *q, I *words) {
    for (int k = 0; k < 32; ++k) {
        const I *chunk = q + k / 8 * 64 + k % 8 * 4;
        I word = {};
        for (int byte = 0; byte < 4; ++byte) {
            word |= ((chunk[byte] & 15) | (chunk[32 + byte] & 15) << 4) << (8 * byte);
        }
        words[k] = word;
    }
}

// Quants of one group as the stored scale makes them, except in lanes whose stored scale is zero (`skip`): they keep those of
// the search, which `left(j)` recomputes.
template <int N, class Left>
QM_INLINE void requantize(const V *x, V scale, V offset, int low, int high, I *q, Left left) {
    for (int j = 0; j < N; ++j) {
        q[j] = lesser(greater(nearest_int((x[j] + offset) / scale), splat_int(low)), splat_int(high)) - low;
    }
    const I skip = scale == 0.f;
    if (any(skip)) {
        for (int j = 0; j < N; ++j) q[j] = select(skip, left(j), q[j]);
    }
}

}  // namespace quantmill::QM_LEVEL
