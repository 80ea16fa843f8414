// Vectors for inference: bytes, words and floats of W rows, and the product of four bytes at a time.
//
// Compiled once per level, in that level's namespace, like common/simd.h, which this extends.
#pragma once

#include "common/simd.h"
#include "infer/infer.h"

namespace quantmill::QM_LEVEL {

using namespace infer;

typedef std::int8_t B __attribute__((vector_size(4 * W)));
typedef std::uint8_t UB __attribute__((vector_size(4 * W)));
typedef std::uint16_t H16 __attribute__((vector_size(4 * W)));

constexpr int SPLITS = ROWS / W;  // vectors that hold one number of each row of a panel

template <class T>
QM_INLINE T load(const void *from) {
    T v;
    std::memcpy(&v, from, sizeof v);
    return v;
}
template <class T>
QM_INLINE void store(void *to, T v) {
    std::memcpy(to, &v, sizeof v);
}

// The four bytes at `from` in every lane.
QM_INLINE I spread(const std::uint8_t *from) {
    std::int32_t v;
    std::memcpy(&v, from, 4);
    return splat_int(v);
}

QM_INLINE V fma(V a, V b, V c) {
#if defined(__AVX512F__)
    return (V)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
    return (V)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__aarch64__)
    return (V)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
    return a * b + c;
#endif
}

// ---- products of bytes ----

// Where the instruction takes one unsigned operand, that one is biased by 128, and the sums are corrected for it.
#if defined(__AVX512VNNI__)
constexpr int BIAS = 128;
#else
constexpr int BIAS = 0;
#endif

// sum + a[4i..] * b[4i..] in each lane i; `a` is biased by BIAS.
QM_INLINE I dot(I sum, I a, I b) {
#if defined(__AVX512VNNI__)
    return (I)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
    // |b| <= 128 is unsigned and a, at most 127 in magnitude, takes its sign: two products never pass 16 bits.
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8((__m256i)b), _mm256_sign_epi8((__m256i)a, (__m256i)b));
    return sum + (I)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
#elif defined(__SSSE3__)
    const __m128i pairs = _mm_maddubs_epi16(_mm_abs_epi8((__m128i)b), _mm_sign_epi8((__m128i)a, (__m128i)b));
    return sum + (I)_mm_madd_epi16(pairs, _mm_set1_epi16(1));
#elif defined(__ARM_FEATURE_DOTPROD)
    return (I)vdotq_s32((int32x4_t)sum, (int8x16_t)a, (int8x16_t)b);
#elif defined(__aarch64__)
    const int16x8_t low = vmull_s8(vget_low_s8((int8x16_t)a), vget_low_s8((int8x16_t)b));
    const int16x8_t high = vmull_high_s8((int8x16_t)a, (int8x16_t)b);
    return sum + (I)vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high));
#else
#error "no product of bytes for this machine"
#endif
}

// ---- codes and scales ----

// table[code] of each byte; codes are below 16.
QM_INLINE B look_up(const std::int8_t *table, UB codes) {
#if defined(__AVX512BW__)
    const __m128i t = _mm_loadu_si128((const __m128i *)table);
    return (B)_mm512_shuffle_epi8(_mm512_maskz_broadcast_i32x4(__mmask16(-1), t), (__m512i)codes);
#elif defined(__AVX2__)
    return (B)_mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)table)), (__m256i)codes);
#elif defined(__SSSE3__)
    return (B)_mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)table), (__m128i)codes);
#else
    return (B)vqtbl1q_s8(vld1q_s8(table), (uint8x16_t)codes);
#endif
}

// W halves or W bytes in memory as floats.
QM_INLINE V from_halves(const void *from) { return from_halves(load<H>(from)); }
QM_INLINE V from_brains(const void *from) {
    return from_bits(__builtin_convertvector(load<H>(from), I) << 16);
}
// W signed bytes as words, by the instruction where there is one: gcc 12 makes a conversion from bytes of many scalar ones.
QM_INLINE I widened(const void *from) {
#if defined(__AVX512F__)
    return (I)_mm512_maskz_cvtepi8_epi32(__mmask16(-1), load<__m128i>(from));
#elif defined(__AVX2__)
    return (I)_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)from));
#elif defined(__SSE4_1__)
    return (I)_mm_cvtepi8_epi32(_mm_cvtsi32_si128(load<std::int32_t>(from)));
#else
    typedef std::int8_t N __attribute__((vector_size(W)));
    return __builtin_convertvector(load<N>(from), I);
#endif
}
QM_INLINE V from_bytes(const std::int8_t *from) { return to_float(widened(from)); }
QM_INLINE V from_bytes(const std::uint8_t *from) { return to_float(widened(from) & 0xff); }

// The lowest byte of each lane, in W bytes; likewise.
QM_INLINE void store_lowest_bytes(std::uint8_t *to, I v) {
#if defined(__AVX2__) && !defined(__AVX512F__)
    const __m256i first = _mm256_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,  //
                                           0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
    const __m256i halves = _mm256_shuffle_epi8((__m256i)v, first);
    _mm_storel_epi64((__m128i *)to, _mm_unpacklo_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1)));
#elif defined(__SSSE3__) && !defined(__AVX512F__)
    const __m128i first = _mm_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
    store(to, _mm_cvtsi128_si32(_mm_shuffle_epi8((__m128i)v, first)));
#else
    typedef std::int8_t N __attribute__((vector_size(W)));
    store(to, __builtin_convertvector(v, N));
#endif
}

// The byte in every lane; a mask that is written as an expression is an int to some compilers' checks, and refused.
QM_INLINE UB bytes_of(std::uint8_t byte) { return UB{} + byte; }

// Codes of step `step` (columns 4 * step to 4 * step + 3 of a group), of the W rows from row `row` on: byte 4 * r + i is row r's
// weight 4 * step + i. Lines of 64 bytes: nibbles (two steps to a line), then pairs of bits (four), then single bits (eight).
template <int BITS>
QM_INLINE UB codes_of(const std::uint8_t *group, int step, int row) {
    const std::uint8_t *from = group + 4 * row;
    if constexpr (BITS == 8) return load<UB>(from + 64 * step);
    UB code = {};
    int line = 0, shift = 0;
    if constexpr (BITS >= 4) {
        const H16 both = load<H16>(from + 64 * (step / 2));
        code = (UB)(step % 2 ? both >> 4 : both) & 15;
        line = 4, shift = 4;
    }
    if constexpr (BITS & 2) {
        const H16 four = load<H16>(from + 64 * (line + step / 4));
        const int move = 2 * (step % 4) - shift;
        code |= (UB)(move < 0 ? four << -move : four >> move) & bytes_of(std::uint8_t(3 << shift));
        line += 2, shift += 2;
    }
    if constexpr (BITS & 1) {
        const H16 eight = load<H16>(from + 64 * line);
        const int move = step - shift;
        code |= (UB)(move < 0 ? eight << -move : eight >> move) & bytes_of(std::uint8_t(1 << shift));
    }
    return code;
}

// Scales and offsets of the rows from `row` on; `part` numbers the groups of GROUP_SIZE.
template <Scale KIND, bool OFFSET, int SIZE>
QM_INLINE void scales_of(const std::uint8_t *head, std::int64_t part, int row, V &scale, V &offset) {
    constexpr int kinds = OFFSET ? 2 : 1;
    if constexpr (KIND == Scale::half) {
        const std::uint8_t *from = head + part * (2 * ROWS * kinds) + 2 * row;
        scale = from_halves(from);
        if constexpr (OFFSET) offset = from_halves(from + 2 * ROWS);
    } else if constexpr (KIND == Scale::single) {
        scale = load<V>(head + part * (4 * ROWS) + 4 * row);
    } else {
        constexpr int parts = 256 / SIZE, size = super_bytes(OFFSET);
        const std::uint8_t *super = head + part / parts * (ROWS * (size + parts) * kinds);
        const std::uint8_t *bytes = super + size * ROWS * kinds + part % parts * ROWS + row;
        const V values = from_bytes(reinterpret_cast<const std::int8_t *>(bytes));
        if constexpr (OFFSET) {
            scale = from_halves(super + size * row) * values;
            offset = from_halves(super + size * (ROWS + row)) * from_bytes(bytes + parts * ROWS);
        } else {
            scale = load<V>(super + size * row) * values;
        }
    }
}

}  // namespace quantmill::QM_LEVEL
