// F32, F16 and BF16: a "block" is one weight. These run at the speed of memory, so they are plain loops over it.
#include "common/simd.h"

namespace quantmill::QM_LEVEL {

static void quantize_f32(const float *src, std::uint8_t *dst, std::int64_t rows, std::int64_t cols, const float *, Changes) {
    std::memcpy(dst, src, std::size_t(rows * cols) * 4);
}

static void dequantize_f32(const std::uint8_t *src, float *dst, std::int64_t count) {
    std::memcpy(dst, src, std::size_t(count) * 4);
}

constexpr int LINES = 32;  // weights in two of memory's lines

// `work(src, dst)` for every 32 weights, 16 bits each.
template <class Work>
QM_INLINE void by_lines(const float *src, std::uint8_t *dst, std::int64_t count, Work work) {
    for (; count >= LINES; count -= LINES, src += LINES, dst += 2 * LINES) {
        fetch_ahead(src);
        fetch_ahead(src + LINES / 2);
        work(src, dst);
    }
    if (count > 0) {
        float rest[LINES] = {};
        std::uint8_t out[2 * LINES];
        std::memcpy(rest, src, std::size_t(count) * 4);
        work(rest, out);
        std::memcpy(dst, out, std::size_t(count) * 2);
    }
}

static void quantize_f16(const float *src, std::uint8_t *dst, std::int64_t rows, std::int64_t cols, const float *, Changes) {
    by_lines(src, dst, rows * cols, [](const float *from, std::uint8_t *to) {
        QM_UNROLL
        for (int i = 0; i < LINES; i += W) {
            V v;
            std::memcpy(&v, from + i, sizeof v);
            const H h = to_halves(v);
            std::memcpy(to + 2 * i, &h, sizeof h);
        }
    });
}

QM_INLINE void widen(const std::uint8_t *src, float *dst) {
    H h;
    std::memcpy(&h, src, sizeof h);
    const V v = from_halves(h);
    std::memcpy(dst, &v, sizeof v);
}

static void dequantize_f16(const std::uint8_t *src, float *dst, std::int64_t count) {
    std::int64_t i = 0;
    for (; i + W <= count; i += W) widen(src + 2 * i, dst + i);
    if (i < count) {
        std::uint8_t rest[2 * W] = {};
        float out[W];
        std::memcpy(rest, src + 2 * i, std::size_t(count - i) * 2);
        widen(rest, out);
        std::memcpy(dst + i, out, std::size_t(count - i) * 4);
    }
}

// Rounded to nearest even; a NaN keeps its upper bits and is made quiet.
static void quantize_bf16(const float *src, std::uint8_t *dst, std::int64_t rows, std::int64_t cols, const float *, Changes) {
    by_lines(src, dst, rows * cols, [](const float *__restrict from, std::uint8_t *__restrict to) {
        QM_ROLLED
        for (int i = 0; i < LINES; ++i) {
            std::uint32_t w;
            std::memcpy(&w, from + i, 4);
            const std::uint32_t rounded = (w + (0x7fff + ((w >> 16) & 1))) >> 16;
            const std::uint16_t h = std::uint16_t((w & 0x7fffffff) > 0x7f800000 ? (w >> 16) | 64 : rounded);
            std::memcpy(to + 2 * i, &h, 2);
        }
    });
}

static void dequantize_bf16(const std::uint8_t *__restrict src, float *__restrict dst, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) {
        std::uint16_t h;
        std::memcpy(&h, src + 2 * i, 2);
        const std::uint32_t w = std::uint32_t(h) << 16;
        std::memcpy(dst + i, &w, 4);
    }
}

// clang-format off
QM_FAMILY(floats, {"F32", 1, 4, quantize_f32, dequantize_f32, false},
                  {"F16", 1, 2, quantize_f16, dequantize_f16, false},
                  {"BF16", 1, 2, quantize_bf16, dequantize_bf16, false})
// clang-format on

}  // namespace quantmill::QM_LEVEL
