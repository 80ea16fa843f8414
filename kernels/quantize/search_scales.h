// The search for one scale of a super-block's N scales (or minima), none negative, rounded to 0 .. NMAX (the reference's
// make_qp_quants).
#pragma once

#include "common/simd.h"

namespace quantmill::QM_LEVEL {

// Returns the scale; quants[j] is what fits a byte. Before the guards zero is divided by zero where all weights are zero: NaN.
template <int N, int NMAX>
QM_OUTLINE V search_scales(const V *x, const V *w, I *quants, Changes arithmetic) {
    V max = {};
    for (int j = 0; j < N; ++j) max = greater(max, x[j]);
    const I zero = arithmetic.has(Change::guards) ? max < 1e-15f : max == 0.f;

    V inverse = float(NMAX) / max;
    V least = {};
    {
        const V scale = 1.f / inverse;
        for (int j = 0; j < N; ++j) {
            const V difference = x[j] - scale * to_float(nearest_int(inverse * x[j]) & 0xff);
            least += w[j] * difference * difference;
        }
    }
    for (int tenths = -4; tenths <= 4; ++tenths) {
        if (tenths == 0) continue;
        const V candidate = (0.1f * tenths + NMAX) / max;
        const V scale = 1.f / candidate;
        V error = {};
        for (int j = 0; j < N; ++j) {
            const V difference = x[j] - scale * to_float(lesser(nearest_int(candidate * x[j]), splat_int(NMAX)));
            error += w[j] * difference * difference;
        }
        const I better = error < least;
        least = select(better, error, least);
        inverse = select(better, candidate, inverse);
    }

    V product = {}, square = {};
    for (int j = 0; j < N; ++j) {
        const I l = lesser(nearest_int(inverse * x[j]), splat_int(NMAX));
        const V value = to_float(l);
        quants[j] = l & 0xff;
        product += w[j] * x[j] * value;
        square += w[j] * value * value;
    }
    // Then single quants are moved as long as that helps. A lane in which a pass changed nothing stays as it is.
    for (int pass = 0; pass < 5; ++pass) {
        I changed = {};
        for (int j = 0; j < N; ++j) {
            const V old = to_float(quants[j]), wx = w[j] * x[j];
            const V p = product - wx * old, s = square - w[j] * old * old;
            const I l = lesser(nearest_int(x[j] * s / p), splat_int(NMAX));
            const V value = to_float(l);
            const V p_new = p + wx * value, s_new = s + w[j] * value * value;
            const I better = (p > 0.f) & (s > 0.f) & (l != quants[j]) & (p_new * p_new * square > product * product * s_new);
            quants[j] = select(better, l & 0xff, quants[j]);
            product = select(better, p_new, product);
            square = select(better, s_new, square);
            changed |= better;
        }
        if (!any(changed)) break;
    }
    for (int j = 0; j < N; ++j) quants[j] = select(zero, I{}, quants[j]);
    V scale = product / square;
    if (arithmetic.has(Change::guards)) scale = select(square > 0.f, scale, V{});
    return select(zero, V{}, scale);
}

}  // namespace quantmill::QM_LEVEL
