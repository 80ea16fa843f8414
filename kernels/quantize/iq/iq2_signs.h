// Signs of eight weights as bits, and the three formats' expansion of a point.
#pragma once

#include "common/grids.h"
#include "quantize/super.h"

namespace quantmill::QM_LEVEL {

// Magnitudes of eight weights; bit i of the result says that x[i] was negative (or not a number).
QM_INLINE I split_signs(const V *x, V *magnitudes) {
    I signs = {};
    for (int i = 0; i < 8; ++i) {
        const I negative = ~(x[i] >= 0.f);
        magnitudes[i] = select(negative, -x[i], x[i]);
        signs |= negative & (1 << i);
    }
    return signs;
}

// The same with an even number of signs, so that seven bits say all eight: where it is odd, the weight that matters least
// gets the wrong sign and, for it, a negative magnitude.
QM_INLINE I split_even_signs(const V *x, const V *w, V *magnitudes) {
    I signs = split_signs(x, magnitudes);
    V least = w[0] * x[0] * x[0];
    I where = {};
    for (int i = 1; i < 8; ++i) {
        const V error = w[i] * x[i] * x[i];
        const I less = error < least;
        least = select(less, error, least);
        where = select(less, splat_int(i), where);
    }
    I parity = signs ^ signs >> 4;
    parity ^= parity >> 2;
    const I odd = -((parity ^ parity >> 1) & 1);
    for (int i = 0; i < 8; ++i) {
        const I flip = odd & (where == i);
        magnitudes[i] = select(flip, -magnitudes[i], magnitudes[i]);
        signs ^= flip & (1 << i);
    }
    return signs & 127;
}

// The eighth sign from seven.
QM_INLINE int even_signs(int seven) { return seven | __builtin_parity(unsigned(seven)) << 7; }

QM_INLINE void expand_octet(const Grid &grid, int index, int signs, float step, float *dst) {
    const std::int8_t *point = grid.points + 8 * index;
    for (int i = 0; i < 8; ++i) dst[i] = step * float(point[i]) * (signs >> i & 1 ? -1.f : 1.f);
}

}  // namespace quantmill::QM_LEVEL
