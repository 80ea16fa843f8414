// W lanes of fma: a * b + c rounded once to float32, in hardware or, with the same bits, in software.
#pragma once

#include "common/simd.h"

namespace quantmill::QM_LEVEL {

QM_INLINE V load(const float *from) {
    V v;
    std::memcpy(&v, from, sizeof v);
    return v;
}

QM_INLINE void store(float *to, V v) { std::memcpy(to, &v, sizeof v); }

// The first n values at `from`, the rest of the lanes being `other`.
QM_INLINE V load_some(const float *from, std::int64_t n, float other) {
    if (n >= W) return load(from);
#if defined(__AVX512F__)
    return (V)_mm512_mask_loadu_ps(_mm512_set1_ps(other), n > 0 ? __mmask16((1u << n) - 1) : __mmask16(0), from);
#endif
    float lane[W];
    for (int i = 0; i < W; ++i) lane[i] = i < n ? from[i] : other;
    return load(lane);
}

QM_INLINE void store_some(float *to, std::int64_t n, V v) {
    if (n >= W) return store(to, v);
#if defined(__AVX512F__)
    return _mm512_mask_storeu_ps(to, n > 0 ? __mmask16((1u << n) - 1) : __mmask16(0), (__m512)v);
#endif
    float lane[W];
    store(lane, v);
    for (int i = 0; i < n; ++i) to[i] = lane[i];
}

QM_INLINE V broadcast(float v) {
#if defined(__AVX512F__)
    return (V)_mm512_set1_ps(v);
#elif defined(__AVX__)
    return (V)_mm256_set1_ps(v);
#elif defined(__x86_64__)
    return (V)_mm_set1_ps(v);
#else
    return (V)vdupq_n_f32(v);
#endif
}

// In software: the product of two floats is exact in double. The sum is rounded to odd: where it is not exact, the last bit is set,
// which keeps a second rounding to float32 from seeing a tie that is none. (Boldo and Melquiond, "Emulation of a FMA and correctly
// rounded sums".) The conversion to float32 follows the processor's mode, flushing included: x86 detects what is too small for
// a normal number after rounding, and `before_rounding` makes Arm, which detects it before, do the same.
typedef double D __attribute__((vector_size(4 * W)));
typedef std::int64_t L __attribute__((vector_size(4 * W)));
typedef float Half __attribute__((vector_size(2 * W)));

QM_INLINE Half soft_fma(Half a, Half b, Half c) {
    const D p = __builtin_convertvector(a, D) * __builtin_convertvector(b, D), q = __builtin_convertvector(c, D);
    const D s = p + q, t = s - p;
    const D error = (p - (s - t)) + (q - t);  // Knuth's exact error of a sum; NaN where s is not finite
    const L up = (error > 0) == (s > 0);      // whether the exact sum is larger in magnitude than s
    const L inexact = (error < 0) | (error > 0);
    const L bits = (L)s, even = (bits & 1) - 1;
    D odd = (D)(bits + (inexact & even & -(up | 1)));
#if defined(__aarch64__)
    const D magnitude = (D)((L)odd & INT64_MAX);
    const L rounds_up = (magnitude < 0x1p-126) & (magnitude >= 0x1p-126 - 0x1p-151);
    odd = (D)(((L)odd & ~rounds_up) | (rounds_up & (((L)odd & INT64_MIN) | 0x3810000000000000)));
#endif
    return __builtin_convertvector(odd, Half);
}

QM_INLINE V software_fma(V a, V b, V c) {
    Half x[2], y[2], z[2];
    std::memcpy(x, &a, sizeof a);
    std::memcpy(y, &b, sizeof b);
    std::memcpy(z, &c, sizeof c);
    for (int i = 0; i < 2; ++i) x[i] = soft_fma(x[i], y[i], z[i]);
    std::memcpy(&a, x, sizeof a);
    return a;
}

#if defined(__AVX512F__)
QM_INLINE V fma(V a, V b, V c) { return (V)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
#elif defined(__FMA__)
QM_INLINE V fma(V a, V b, V c) { return (V)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
#elif defined(__aarch64__)
QM_INLINE V fma(V a, V b, V c) { return (V)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
#else
QM_INLINE V fma(V a, V b, V c) { return software_fma(a, b, c); }
#endif

}  // namespace quantmill::QM_LEVEL
