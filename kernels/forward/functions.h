// exp and what is made of it, in lanes, by polynomials: only +, -, *, / and bits, each rounded once, so that every level gives the same bits.
#pragma once

#include "forward/fma.h"

namespace quantmill::QM_LEVEL {

// v = n log(2) + r with |r| <= log(2) / 2; n is in the low bits of `shifted`, those of ROUNDER being zeros. exp(r) - 1.
QM_INLINE V reduced_exponential(V v, V &shifted) {
    shifted = v * 1.44269504f + ROUNDER;
    const V n = shifted - ROUNDER;  // v / log(2), rounded
    const V r = (v - n * 0.693359375f) - n * -2.12194440e-4f;
    V p = r * 1.9841270e-4f + 1.3888889e-3f;  // the Taylor series
    p = p * r + 8.3333333e-3f;
    p = p * r + 4.1666667e-2f;
    p = p * r + 1.6666667e-1f;
    p = p * r + 0.5f;
    return (p * r) * r + r;
}

// Within 1.5 units in the last place. Below -87.3, where exp(v) is no normal number, it is 0; above 88.72 infinite; NaN stays NaN.
QM_INLINE V exponential(V v) {
    V shifted;
    const V p = reduced_exponential(v, shifted) + 1.f;
    // p times 2^n, which is a normal number or infinite where it is not replaced: an addition to the exponent.
    V value = (V)((U)p + ((U)shifted << 23));
    value = select(v > 88.7228317f, broadcast(__builtin_inff()), value);
    value = select(v < -87.3365402f, V{}, value);
    return select(v != v, v, value);
}

// tanh(|v|) = e / (e + 2) with e = exp(2 |v|) - 1, which keeps what is small; from 10 on it is 1. Within 4 units in the last place.
QM_INLINE V hyperbolic_tangent(V v) {
    const V magnitude = lesser(absolute(v), broadcast(10.f));
    V shifted;
    const V p = reduced_exponential(magnitude + magnitude, shifted);
    const V power = (V)((U)broadcast(1.f) + ((U)shifted << 23));
    const V e = p * power + (power - 1.f);
    const V value = (V)((I)(e / (e + 2.f)) | ((I)v & INT32_MIN));
    return select(v != v, v, value);
}

QM_INLINE V sigmoid(V v) { return 1.f / (1.f + exponential(-v)); }

// log(1 + exp(v)), the larger of v and 0 plus log(1 + y) with y = exp(-|v|), which is 2 artanh(y / (2 + y)).
QM_INLINE V softplus(V v) {
    const V y = exponential(-absolute(v)), s = y / (2.f + y), square = s * s;
    V p = square * (1.f / 15) + 1.f / 13;
    p = p * square + 1.f / 11;
    p = p * square + 1.f / 9;
    p = p * square + 1.f / 7;
    p = p * square + 1.f / 5;
    p = p * square + 1.f / 3;
    const V twice = s + s, value = greater(v, V{}) + (twice * square * p + twice);
    return select(v != v, v, value);
}

// v / (1 + exp(-v))
QM_INLINE V silu(V v) { return v / (1.f + exponential(-v)); }

// gelu in its tanh form, 0.5 v (1 + tanh(u)), which is v / (1 + exp(-2u)); u = sqrt(2 / pi) (v + 0.044715 v^3)
QM_INLINE V gelu(V v) {
    const V u = 0.797884561f * (v + 0.044715f * (v * v * v));
    return v / (1.f + exponential(-(u + u)));
}

// v times the normal distribution, half of erfc(-v / sqrt(2)). What is beyond |v| is exp(-v^2 / 2) t p(t) with
// t = 1 / (1 + |v| / sqrt(8)), p being fitted to 2e-8 of it.
QM_INLINE V gelu_erf(V v) {
    const V magnitude = absolute(v), t = 1.f / (1.f + magnitude * 0.353553391f);
    V p = broadcast(0.0067673246f);
    p = p * t - 0.06480703f;
    p = p * t + 0.22140557f;
    p = p * t - 0.3435229f;
    p = p * t + 0.21707594f;
    p = p * t - 0.05226424f;
    p = p * t + 0.11372276f;
    p = p * t + 0.11914411f;
    p = p * t + 0.14144701f;
    p = p * t + 0.14103144f;
    const V beyond = p * t * exponential(-0.5f * (v * v));
    return v * select(v > 0.f, 1.f - beyond, beyond);
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
