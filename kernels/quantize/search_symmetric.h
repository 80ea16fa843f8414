// The search for one scale of a group whose values are rounded to -NMAX .. NMAX-1 (the reference's make_qx_quants, weighted).
#pragma once

#include "common/simd.h"

namespace quantmill::QM_LEVEL {

struct Symmetric {
    V scale;
    V inverse;  // what the values were multiplied with before rounding
    I zero;     // lanes whose values are all as good as zero: their scale is 0 and every quant is stored as 0
};

// Minimizes the squared error with weights w over 19 candidates around the scale that maps the largest magnitude to -NMAX.
template <int N, int NMAX>
QM_OUTLINE Symmetric search_symmetric(const V *x, const V *w) {
    V largest = {}, extreme = {};
    for (int j = 0; j < N; ++j) {
        const V magnitude = absolute(x[j]);
        const I larger = magnitude > largest;
        largest = select(larger, magnitude, largest);
        extreme = select(larger, x[j], extreme);
    }
    V wx[N];
    for (int j = 0; j < N; ++j) wx[j] = w[j] * x[j];

    Symmetric found;
    found.zero = largest < 1e-15f;
    V best = {};
    for (int candidate = 0; candidate < 19; ++candidate) {
        // The plain scale first, then -9 .. 9 tenths beside it.
        const int tenths = candidate == 0 ? 0 : candidate < 10 ? candidate - 10 : candidate - 9;
        const V inverse = -(NMAX + 0.1f * tenths) / extreme;
        V product = {}, square = {};
        for (int j = 0; j < N; ++j) {
            const V l = nearest_clamped(inverse * x[j], -NMAX, NMAX - 1);
            product += wx[j] * l;
            square += w[j] * l * l;
        }
        if (candidate == 0) {
            found.scale = select(square != 0.f, product / square, V{});
            found.inverse = inverse;
            best = found.scale * product;
            continue;
        }
        const I better = (square > 0.f) & (product * product > best * square);
        const V scale = product / square;
        found.scale = select(better, scale, found.scale);
        found.inverse = select(better, inverse, found.inverse);
        best = select(better, scale * product, best);
    }
    found.scale = select(found.zero, V{}, found.scale);
    return found;
}

// The group's quants as the search left them, offset by NMAX.
template <int NMAX>
QM_INLINE I symmetric_quant(const Symmetric &found, V x) {
    const I l = lesser(greater(nearest_int(found.inverse * x), splat_int(-NMAX)), splat_int(NMAX - 1));
    return select(found.zero, I{}, l + NMAX);
}

}  // namespace quantmill::QM_LEVEL
