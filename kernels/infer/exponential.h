// exp, and sums across a vector. Not for what decides bytes of a release.
#pragma once

#include "infer/level.h"

namespace quantmill::QM_LEVEL {

QM_INLINE float across(V v) {
    float lanes[W], sum = 0;
    store(lanes, v);
    for (int width = W / 2; width > 0; width /= 2) {
        for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
    }
    sum = lanes[0];
    return sum;
}

// e^x to a few units of the last place, from 2^n times a polynomial of |r| <= ln(2) / 2; 0 and infinity beyond floats.
QM_INLINE V exponential(V x) {
    x = greater(lesser(x, splat(89.f)), splat(-88.f));
    const V n = fma(x, splat(1.44269504f), splat(ROUNDER)) - ROUNDER;
    V r = fma(n, splat(-0.693359375f), x);
    r = fma(n, splat(2.12194440e-4f), r);
    V p = splat(1.f / 720);
    p = fma(p, r, splat(1.f / 120));
    p = fma(p, r, splat(1.f / 24));
    p = fma(p, r, splat(1.f / 6));
    p = fma(p, r, splat(0.5f));
    p = fma(p, r, splat(1.f));
    p = fma(p, r, splat(1.f));
    // Two factors, so that 2^128 and 2^-127 are reached by what can be held.
    const I whole = __builtin_convertvector(n, I), part = whole >> 1;
    return p * from_bits((part + 127) << 23) * from_bits((whole - part + 127) << 23);
}

QM_INLINE V silu(V x) { return x / (1.f + exponential(-x)); }

}  // namespace quantmill::QM_LEVEL
