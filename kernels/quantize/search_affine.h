// The search for a scale and a minimum of a group whose values are rounded to 0 .. NMAX (the reference's make_qkx2_quants and
// make_qkx3_quants, which differ in nothing once the weights are given).
#pragma once

#include "common/simd.h"

namespace quantmill::QM_LEVEL {

struct Affine {
    V scale, min;     // a value is scale * quant + min; min <= 0
    V inverse, base;  // a quant is the nearest integer to inverse * (value - base)
    I empty;          // lanes without any spread: their scale is 0 and every quant 0
};

// Tries steps + 1 scales from first, by delta, fits scale and minimum to each by least squares, and keeps the smallest weighted
// error (of magnitudes if ABSOLUTE, else of squares). A kept minimum is the one that the candidates after it start from.
template <int N, int NMAX, bool ABSOLUTE = false>
QM_OUTLINE Affine search_affine(const V *x, const V *w, float first, float delta, int steps) {
    V min = x[0], max = x[0], sum_w = w[0], sum_x = w[0] * x[0];
    for (int j = 1; j < N; ++j) {
        min = lesser(x[j], min);
        max = greater(x[j], max);
        sum_w += w[j];
        sum_x += w[j] * x[j];
    }
    min = select(min > 0.f, V{}, min);

    V quants[N];
    const auto error_of = [&](V scale, V base) __attribute__((always_inline)) {
        V error = {};
        for (int j = 0; j < N; ++j) {
            const V difference = scale * quants[j] + base - x[j];
            error += w[j] * (ABSOLUTE ? absolute(difference) : difference * difference);
        }
        return error;
    };

    Affine found;
    found.empty = max <= min;
    found.inverse = float(NMAX) / (max - min);
    found.base = min;
    found.scale = 1.f / found.inverse;
    for (int j = 0; j < N; ++j) quants[j] = nearest_clamped(found.inverse * (x[j] - min), 0, NMAX);
    V least = error_of(found.scale, min);

    for (int step = 0; step <= steps; ++step) {
        const V inverse = (first + delta * step + NMAX) / (max - min);
        V sum_l = {}, sum_l2 = {}, sum_xl = {};
        for (int j = 0; j < N; ++j) {
            const V l = nearest_clamped(inverse * (x[j] - min), 0, NMAX);
            const V wl = w[j] * l;
            quants[j] = l;
            sum_l += wl;
            sum_l2 += wl * l;
            sum_xl += wl * x[j];
        }
        const V determinant = sum_w * sum_l2 - sum_l * sum_l;
        const I solvable = determinant > 0.f;
        if (!any(solvable)) continue;
        V scale = (sum_w * sum_xl - sum_x * sum_l) / determinant;
        V base = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
        const I positive = base > 0.f;
        scale = select(positive, sum_xl / sum_l2, scale);
        base = select(positive, V{}, base);
        const V error = error_of(scale, base);
        const I better = solvable & (error < least);
        least = select(better, error, least);
        found.scale = select(better, scale, found.scale);
        found.inverse = select(better, inverse, found.inverse);
        found.base = select(better, min, found.base);
        min = select(better, base, min);
    }
    // An empty lane takes part in the arithmetic above, so its minimum is put back.
    found.min = select(found.empty, found.base, min);
    found.scale = select(found.empty, V{}, found.scale);
    return found;
}

// The group's quants as the search left them.
template <int NMAX>
QM_INLINE I affine_quant(const Affine &found, V x) {
    const I l = lesser(greater(nearest_int(found.inverse * (x - found.base)), I{}), splat_int(NMAX));
    return select(found.empty, I{}, l);
}

}  // namespace quantmill::QM_LEVEL
