// What IQ4_NL and IQ4_XS share: sixteen values, unevenly spaced, and the search for a scale of 32 weights.
#pragma once

#include "quantize/weights.h"

namespace quantmill::QM_LEVEL {

constexpr int GROUP = 32;
static constexpr std::int8_t VALUES[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

// A table's entry (sign-extended) at index & 15 of each lane; the index's other bits must be clear.
QM_INLINE I table_entry(const std::int8_t (&table)[16], I index) {
#if defined(__SSSE3__)
    // The bytes above the index ask for nothing (their top bit is set), so the entry stands alone in its lane's top byte.
    const I wanted = (index << 24) | 0x00808080;
    const __m128i entries = _mm_load_si128(reinterpret_cast<const __m128i *>(table));
#if defined(__AVX512BW__)
    const I found = (I)_mm512_shuffle_epi8(_mm512_maskz_broadcast_i32x4(__mmask16(-1), entries), (__m512i)wanted);
#elif defined(__AVX2__)
    const I found = (I)_mm256_shuffle_epi8(_mm256_broadcastsi128_si256(entries), (__m256i)wanted);
#else
    const I found = (I)_mm_shuffle_epi8(entries, (__m128i)wanted);
#endif
    return found >> 24;
#else
    I found;
    for (int i = 0; i < W; ++i) found[i] = table[index[i]];
    return found;
#endif
}

// Sixteen bins of the numbers between -138 and 138, such that each contains at most one midpoint between two neighbouring values:
// four of width 11.5 and four of width 23 on each side of zero. With 1 + |v| / 46 as a float, the last bit of the exponent and the
// first two of the mantissa number them (exponent 0 comes first, and its last bit is set).
QM_INLINE I bin_of(V twice) {
    const V place = absolute(twice) * (1.f / 92.f) + 1.f;
    return ((bits(place) >> 21) & 7) | ((bits(twice) >> 28) & 8);
}

// The values below and above each bin's midpoint, and their places in VALUES. Bins of the negative numbers come last.
alignas(16) static constexpr std::int8_t LOWER[16] = {53, 69, 89, 113, 1, 13, 25, 38, -65, -83, -104, -127, -10, -22, -35, -49};
alignas(16) static constexpr std::int8_t UPPER[16] = {69, 89, 113, 113, 13, 25, 38, 53, -49, -65, -83, -104, 1, -10, -22, -35};
alignas(16) static constexpr std::int8_t LOWER_INDEX[16] = {12, 13, 14, 15, 8, 9, 10, 11, 3, 2, 1, 0, 7, 6, 5, 4};
alignas(16) static constexpr std::int8_t UPPER_INDEX[16] = {13, 14, 15, 15, 9, 10, 11, 12, 4, 3, 2, 1, 8, 7, 6, 5};

// The value nearest to twice / 2, the upper one of two that are equally near. |twice| must be less than 276.
QM_INLINE V nearest_value(V twice) {
    const I bin = bin_of(twice);
    const V lower = to_float(table_entry(LOWER, bin)), upper = to_float(table_entry(UPPER, bin));
    return select(twice < lower + upper, lower, upper);
}

// The place in VALUES of the value nearest to any v; the last one for a NaN.
QM_INLINE I nearest_index(V v) {
    const V twice = greater(lesser(v, splat(130.f)), splat(-130.f)) * 2.f;
    const I bin = bin_of(twice);
    const V middle = to_float(table_entry(LOWER, bin) + table_entry(UPPER, bin));
    return select(twice < middle, table_entry(LOWER_INDEX, bin), table_entry(UPPER_INDEX, bin));
}

struct Sums {
    V qx, q2;
};

// Weighted products of the values that `inverse * x` rounds to. |inverse * x| must be less than 138.
QM_INLINE Sums sums_at(V inverse, const V *x, const V *w) {
    const V twice = inverse * 2.f;
    Sums sums = {V{}, V{}};
    for (int j = 0; j < GROUP; ++j) {
        const V q = nearest_value(twice * x[j]);
        const V wq = w[j] * q;
        sums.qx += wq * x[j];
        sums.q2 += wq * q;
    }
    return sums;
}

// The best of sixteen scales that put the largest weight near the first value. Lanes of (almost) only zeros get scale 0.
QM_OUTLINE V search_scale(const V *x, const V *w, Changes arithmetic) {
    V largest = {}, peak = {};
    for (int j = 0; j < GROUP; ++j) {
        const V a = absolute(x[j]);
        const I more = a > largest;
        largest = select(more, a, largest);
        peak = select(more, x[j], peak);
    }
    const I empty = largest < 1e-15f;
    const Sums first = sums_at(1.f / (-peak / -127.f), x, w);
    V scale = first.qx / first.q2;
    // Without the guard the NaN of a group whose weights all count for nothing is kept.
    if (arithmetic.has(Change::iq4_guard)) scale = select(first.q2 > 0.f, scale, V{});
    V best = scale * first.qx;
    for (int step = -7; step <= 7; ++step) {
        const Sums sums = sums_at(float(step - 127) / peak, x, w);
        const I better = (sums.q2 > 0.f) & (sums.qx * sums.qx > best * sums.q2);
        const V found = sums.qx / sums.q2;
        scale = select(better, found, scale);
        best = select(better, found * sums.qx, best);
    }
    return select(empty, V{}, scale);
}

// How much each error counts where there may be no importance vector.
QM_INLINE void weigh_group(const Batch &batch, int first, V variance, const V *x, V *w) {
    if (batch.importance[0]) {
        weigh<GROUP>(batch, first, variance, x, w);
    } else {
        for (int j = 0; j < GROUP; ++j) w[j] = x[j] * x[j];
    }
}

// Byte j of a group: weights j and j + 16.
QM_INLINE void pack_group(V inverse, const V *x, I *words) {
    for (int k = 0; k < 4; ++k) {
        I word = {};
        for (int byte = 0; byte < 4; ++byte) {
            const int j = 4 * k + byte;
            word |= (nearest_index(inverse * x[j]) | nearest_index(inverse * x[j + 16]) << 4) << (8 * byte);
        }
        words[k] = word;
    }
}

QM_INLINE void unpack_group(const std::uint8_t *from, float scale, float *to) {
    for (int j = 0; j < 16; ++j) {
        to[j] = scale * float(VALUES[from[j] & 15]);
        to[j + 16] = scale * float(VALUES[from[j] >> 4]);
    }
}

}  // namespace quantmill::QM_LEVEL
