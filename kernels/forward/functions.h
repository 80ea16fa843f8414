// exp in lanes, by a polynomial: only +, -, *, / and bits, each rounded once, so that every level gives the same bits.
#pragma once

#include "forward/fma.h"

namespace quantmill::QM_LEVEL {

// Within 1.5 units in the last place. Below -87.3, where exp(v) is no normal number, it is 0; above 88.72 infinite; NaN stays NaN.
QM_INLINE V exponential(V v) {
    const V shifted = v * 1.44269504f + ROUNDER, n = shifted - ROUNDER;  // v / log(2), rounded
    const V r = (v - n * 0.693359375f) - n * -2.12194440e-4f;
    V p = r * 1.9841270e-4f + 1.3888889e-3f;  // the Taylor series: |r| <= log(2) / 2
    p = p * r + 8.3333333e-3f;
    p = p * r + 4.1666667e-2f;
    p = p * r + 1.6666667e-1f;
    p = p * r + 0.5f;
    p = (p * r) * r + r + 1.f;
    // p times 2^n, which is a normal number or infinite where it is not replaced: an addition to the exponent.
    V value = (V)((U)p + ((U)shifted << 23));  // the low bits of `shifted` are n, those of ROUNDER zeros
    value = select(v > 88.7228317f, broadcast(__builtin_inff()), value);
    value = select(v < -87.3365402f, V{}, value);
    return select(v != v, v, value);
}

// v / (1 + exp(-v))
QM_INLINE V silu(V v) { return v / (1.f + exponential(-v)); }

// gelu in its tanh form, 0.5 v (1 + tanh(u)), which is v / (1 + exp(-2u)); u = sqrt(2 / pi) (v + 0.044715 v^3)
QM_INLINE V gelu(V v) {
    const V u = 0.797884561f * (v + 0.044715f * (v * v * v));
    return v / (1.f + exponential(-(u + u)));
}

// ---- sums of a row in one order for all levels: 16 lanes, then a tree ----

constexpr int LANES = 16;

struct Sum {
    V part[LANES / W];
};

QM_INLINE float total(const Sum &sum) {
    float lane[LANES];
    std::memcpy(lane, sum.part, sizeof lane);
    for (int half = LANES / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; ++i) lane[i] += lane[i + half];
    }
    return lane[0];
}

QM_INLINE float largest(const Sum &of) {
    float lane[LANES];
    std::memcpy(lane, of.part, sizeof lane);
    float most = lane[0];
    for (int i = 1; i < LANES; ++i) most = lane[i] > most ? lane[i] : most;
    return most;
}

// Exponentials of x[0 .. n) - its largest value, in place; their sum. `n` is at least 1.
QM_INLINE float exponentials(float *x, std::int64_t n) {
    Sum most, sum = {};
    for (V &part : most.part) part = broadcast(-__builtin_inff());
    for (std::int64_t j = 0; j < n; j += LANES) {
        QM_UNROLL
        for (int i = 0; i < LANES / W; ++i) {
            most.part[i] = greater(most.part[i], load_some(x + j + i * W, n - j - i * W, -__builtin_inff()));
        }
    }
    const V top = broadcast(largest(most));
    for (std::int64_t j = 0; j < n; j += LANES) {
        QM_UNROLL
        for (int i = 0; i < LANES / W; ++i) {
            const std::int64_t left = n - j - i * W;
            if (left <= 0) break;
            const V e = exponential(load_some(x + j + i * W, left, -__builtin_inff()) - top);
            sum.part[i] += e;
            store_some(x + j + i * W, left, e);
        }
    }
    return total(sum);
}

}  // namespace quantmill::QM_LEVEL
