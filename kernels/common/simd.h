// Lanes across blocks: one vector holds the same element of W blocks, and every lane runs the scalar reference's own sequence.
//
// This header is compiled once per level, in the namespace QM_LEVEL names, so that no inline function of one instruction set
// can be linked into another. It uses only the vector extensions that GCC and clang share.
#pragma once

#include <cstdint>
#include <cstring>

#include "common/kernel.h"

#if defined(__x86_64__)
// GCC 12 takes the intrinsics' own undefined values for a mistake.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#pragma GCC diagnostic pop
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define QM_INLINE static inline __attribute__((always_inline, unused))
#define QM_OUTLINE static __attribute__((noinline, unused))
#define QM_UNROLL _Pragma("GCC unroll 16")
#define QM_ROLLED _Pragma("GCC unroll 1")  // a short loop that is vectorized only if it still is a loop by then

namespace quantmill::QM_LEVEL {

#if defined(__AVX512F__)
constexpr int W = 16;
#elif defined(__AVX2__)
constexpr int W = 8;
#else
constexpr int W = 4;
#endif

typedef float V __attribute__((vector_size(4 * W)));
typedef std::int32_t I __attribute__((vector_size(4 * W)));  // integers, and masks: all bits set or none
typedef std::uint32_t U __attribute__((vector_size(4 * W)));  // where a sum may wrap around, which I may not

// ---- values ----

// A cast between vectors of one size keeps the bits; convertvector converts the values.
QM_INLINE V splat(float v) { return v - V{}; }
QM_INLINE I splat_int(std::int32_t v) { return v - I{}; }
QM_INLINE I bits(V v) { return (I)v; }
QM_INLINE V from_bits(I v) { return (V)v; }
QM_INLINE V to_float(I v) { return __builtin_convertvector(v, V); }
QM_INLINE V select(I mask, V yes, V no) { return mask ? yes : no; }
QM_INLINE I select(I mask, I yes, I no) { return mask ? yes : no; }

// The reference's `if (a < b) b = a`: b where either is NaN.
QM_INLINE V lesser(V a, V b) { return a < b ? a : b; }
QM_INLINE V greater(V a, V b) { return a > b ? a : b; }
QM_INLINE I lesser(I a, I b) { return a < b ? a : b; }
QM_INLINE I greater(I a, I b) { return a > b ? a : b; }
QM_INLINE V absolute(V v) { return from_bits(bits(v) & 0x7fffffff); }

QM_INLINE V square_root(V v) {
    float lanes[W];
    std::memcpy(lanes, &v, sizeof v);
    for (int i = 0; i < W; ++i) lanes[i] = __builtin_sqrtf(lanes[i]);
    std::memcpy(&v, lanes, sizeof v);
    return v;
}

QM_INLINE bool any(I mask) {
#if defined(__AVX512DQ__)
    typedef int Vi __attribute__((vector_size(64)));
    return __builtin_ia32_cvtd2mask512((Vi)mask) != 0;
#elif defined(__AVX2__)
    return __builtin_ia32_movmskps256((V)mask) != 0;
#elif defined(__SSE2__)
    return __builtin_ia32_movmskps((V)mask) != 0;
#else
    std::int32_t all = 0;
    for (int i = 0; i < W; ++i) all |= mask[i];
    return all != 0;
#endif
}

// Asks for the line of memory that a loop at the speed of memory reads soon. The processor alone does not look far enough
// ahead: 6 KB are what an EPYC (Zen 5) is fastest with. Behind the end of the rows it is without effect.
QM_INLINE void fetch_ahead(const float *src) {
    __builtin_prefetch(reinterpret_cast<const void *>(reinterpret_cast<std::uintptr_t>(src) + 6144));
}

// ---- rounding, as the reference does it ----

// Adding 1.5 * 2^23 leaves the integer nearest to v (halves to even) in the low 23 bits, offset by 2^22. Beyond +-2^22 the
// reference takes those bits as they come, infinities and NaN included, so the bits are taken here too.
constexpr float ROUNDER = 12582912.f;

QM_INLINE I nearest_int(V v) { return (bits(v + ROUNDER) & 0x007fffff) - 0x00400000; }

// float(clamp(nearest_int(v), low, high)) without leaving floats: the kept bits under the exponent of 2^23 are a float again.
QM_INLINE V nearest_clamped(V v, int low, int high) {
    I n = (bits(v + ROUNDER) & 0x007fffff) | 0x4b000000;
    n = greater(n, splat_int(0x4b400000 + low));
    n = lesser(n, splat_int(0x4b400000 + high));
    return from_bits(n) - ROUNDER;
}

// C's conversion to int on x86: towards zero, and INT_MIN for what does not fit. Arm would saturate instead.
QM_INLINE I truncate(V v) {
#if defined(__x86_64__)
    return __builtin_convertvector(v, I);
#else
    const I fits = (v > -2147483904.f) & (v < 2147483648.f);
    return select(fits, __builtin_convertvector(select(fits, v, V{}), I), splat_int(INT32_MIN));
#endif
}

// int(roundf(v)): halves away from zero. The addend is the float below one half: a whole half would lift 0.49999997 to 1.
QM_INLINE I round_away(V v) {
    const I half = (bits(v) & INT32_MIN) | 0x3effffff;
    return truncate(v + from_bits(half));
}

QM_INLINE I signed_byte(I v) { return (v << 24) >> 24; }

// ---- half floats ----

typedef std::uint16_t H __attribute__((vector_size(2 * W)));

// fp16, rounded to nearest even; any NaN becomes 0x7e00 with its sign, as ggml's portable code makes it.
QM_INLINE H to_halves(V v) {
#if defined(__F16C__)
    v = from_bits(select(v != v, (bits(v) & INT32_MIN) | 0x7fc00000, bits(v)));  // the instruction would keep a payload
#if defined(__AVX512F__)
    return (H)_mm512_maskz_cvtps_ph(__mmask16(-1), (__m512)v, _MM_FROUND_TO_NEAREST_INT);
#else
    return (H)_mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT);
#endif
#else
#if !defined(__x86_64__)
    // An invalid operation makes a positive NaN on Arm and a negative one on x86, whose bytes are the standard here.
    v = select(bits(v) == 0x7fc00000, from_bits(splat_int(std::int32_t(0xffc00000))), v);
#endif
    const I w = bits(v);
    const I magnitude = w & 0x7fffffff;
    // Scaling up and down again makes what is too large infinite and loses nothing else.
    const V scaled = from_bits(magnitude) * 0x1p+112f * 0x1p-110f;
    // Adding 2^(exponent + 13) rounds the mantissa to ten bits, fewer below fp16's smallest exponent.
    const I exponent = greater(magnitude & 0x7f800000, splat_int(0x38800000));
    // Past fp16's range the sum of the exponents wraps around to a small negative number beside an infinity: no matter.
    const I sum = bits((V)((U)exponent + 0x07800000u) + scaled);
    const I half = ((sum >> 13) & 0x7c00) + (sum & 0x0fff);
    return __builtin_convertvector(((w >> 16) & 0x8000) | select(magnitude > 0x7f800000, splat_int(0x7e00), half), H);
#endif
}

QM_INLINE V from_halves(H h) {
#if defined(__AVX512F__)
    return (V)_mm512_maskz_cvtph_ps(__mmask16(-1), (__m256i)h);
#elif defined(__F16C__)
    return (V)_mm256_cvtph_ps((__m128i)h);
#elif defined(__aarch64__)
    return (V)vcvt_f32_f16((float16x4_t)h);
#else
    const I word = __builtin_convertvector(h, I), magnitude = word & 0x7fff;
    const V normal = from_bits((magnitude << 13) + 0x70000000) * 0x1p-112f;
    const V subnormal = from_bits(magnitude | 0x3f000000) - 0.5f;  // 0x3f000000 is 0.5, whose last bit is worth 2^-24
    return from_bits((word & 0x8000) << 16 | bits(select(magnitude < 0x0400, subnormal, normal)));
#endif
}

// The same in the low half of each lane, the upper half being zero.
QM_INLINE I to_half(V v) { return __builtin_convertvector(to_halves(v), I); }
QM_INLINE V from_half(I h) { return from_halves(__builtin_convertvector(h, H)); }

// One value, at any address.
QM_INLINE float half_value(const std::uint8_t *from) {
    std::uint16_t h;
    std::memcpy(&h, from, 2);
    return from_halves(H{h})[0];
}
QM_INLINE void store_half(std::uint8_t *to, float value) {
    const std::uint16_t h = to_halves(splat(value))[0];
    std::memcpy(to, &h, 2);
}

// ---- W blocks at a time ----

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define QM_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#endif
#endif
#if !defined(QM_SHUFFLE)
#define QM_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, I{__VA_ARGS__})
#endif

QM_INLINE I interleave_low(I a, I b) {
#if defined(__AVX512F__)
    return QM_SHUFFLE(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
#elif defined(__AVX2__)
    return QM_SHUFFLE(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
#else
    return QM_SHUFFLE(a, b, 0, 4, 1, 5);
#endif
}

QM_INLINE I interleave_high(I a, I b) {
#if defined(__AVX512F__)
    return QM_SHUFFLE(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#elif defined(__AVX2__)
    return QM_SHUFFLE(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
#else
    return QM_SHUFFLE(a, b, 2, 6, 3, 7);
#endif
}

// One round rotates the bits of (row, column) by one place, so log2(W) rounds exchange rows and columns.
QM_INLINE void transpose(I (&tile)[W]) {
    QM_UNROLL
    for (int round = 1; round < W; round *= 2) {
        I next[W];
        QM_UNROLL
        for (int i = 0; i < W / 2; ++i) {
            next[2 * i] = interleave_low(tile[i], tile[i + W / 2]);
            next[2 * i + 1] = interleave_high(tile[i], tile[i + W / 2]);
        }
        QM_UNROLL
        for (int i = 0; i < W; ++i) tile[i] = next[i];
    }
}

// Where W blocks begin. When fewer are left, the surplus lanes repeat the last block and are never stored.
struct Batch {
    const float *src[W];
    const float *importance[W];  // null where none is given
    std::uint8_t *dst[W];
    std::int64_t row[W];
    int valid;
};

// Calls work(batch) for all blocks of `rows` rows, W at a time in the order of memory.
template <int BLOCK, int SIZE, class Work>
QM_INLINE void for_batches(const float *src, std::uint8_t *dst, std::int64_t rows, std::int64_t cols, const float *importance,
                           Work work) {
    const std::int64_t per_row = cols / BLOCK, count = rows * per_row;
    for (std::int64_t first = 0; first < count; first += W) {
        Batch batch;
        batch.valid = count - first < W ? int(count - first) : W;
        for (int i = 0; i < W; ++i) {
            const std::int64_t block = first + (i < batch.valid ? i : batch.valid - 1);
            batch.row[i] = block / per_row;
            batch.src[i] = src + block * BLOCK;
            batch.dst[i] = dst + block * SIZE;
            batch.importance[i] = importance ? importance + block % per_row * BLOCK : nullptr;
        }
        work(batch);
    }
}

// x[j] = element first + j of every lane's block; n is a multiple of 16.
QM_OUTLINE void load_lanes(const float *const (&from)[W], int first, int n, V *x) {
    for (int j = 0; j < n; j += W) {
        I tile[W];
        QM_UNROLL
        for (int i = 0; i < W; ++i) std::memcpy(&tile[i], from[i] + first + j, sizeof(I));
        transpose(tile);
        QM_UNROLL
        for (int i = 0; i < W; ++i) x[j + i] = from_bits(tile[i]);
    }
}

// Writes n 32-bit words (little-endian) of every lane's block at byte `offset`.
QM_OUTLINE void store_words(const Batch &batch, int offset, const I *words, int n) {
    for (int j = 0; j < n; j += W) {
        I tile[W];
        QM_UNROLL
        for (int i = 0; i < W; ++i) tile[i] = words[j + i < n ? j + i : n - 1];
        transpose(tile);
        const int size = 4 * (n - j < W ? n - j : W);
        if (size == int(sizeof(I))) {
            for (int i = 0; i < batch.valid; ++i) std::memcpy(batch.dst[i] + offset + 4 * j, &tile[i], sizeof(I));
        } else {
            for (int i = 0; i < batch.valid; ++i) std::memcpy(batch.dst[i] + offset + 4 * j, &tile[i], size);
        }
    }
}

// Writes one 16-bit value (the low half of each lane) at byte `offset`: a block's scale.
QM_INLINE void store_half(const Batch &batch, int offset, I value) {
    for (int i = 0; i < batch.valid; ++i) {
        const std::uint16_t h = std::uint16_t(value[i]);
        std::memcpy(batch.dst[i] + offset, &h, 2);
    }
}

// Writes byte arrays kept as one value per lane (0 to 255): n a multiple of 4, four values to a word.
QM_INLINE void store_bytes(const Batch &batch, int offset, const I *bytes, int n) {
    I words[64];
    for (int j = 0; j < n / 4; ++j) {
        words[j] = bytes[4 * j] | bytes[4 * j + 1] << 8 | bytes[4 * j + 2] << 16 | bytes[4 * j + 3] << 24;
    }
    store_words(batch, offset, words, n / 4);
}

}  // namespace quantmill::QM_LEVEL
