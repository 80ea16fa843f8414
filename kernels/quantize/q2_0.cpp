// Q2_0: 64 weights as one fp16 scale, the largest magnitude, and codes of 2 bits, which stand for -1, 0, 1 and 2 (unused) of it.
#include "common/simd.h"

namespace quantmill::QM_LEVEL {

constexpr int BLOCK = 64, SIZE = 18;

// An importance vector changes nothing in this type.
static void quantize_q2_0(const float *src, std::uint8_t *dst, std::int64_t rows, std::int64_t cols, const float *, Changes) {
    for_batches<BLOCK, SIZE>(src, dst, rows, cols, nullptr, [](const Batch &batch) {
        V x[BLOCK], largest = {};
        I words[4] = {};
        load_lanes(batch.src, 0, BLOCK, x);
        for (int j = 0; j < BLOCK; ++j) largest = greater(absolute(x[j]), largest);
        // The inverse of the smallest is infinite, and the integer of what is then no number is the least one.
        const V inverse = select(largest > 0.f, 1.f / largest, V{});
        for (int j = 0; j < BLOCK; ++j) {
            const I code = lesser(greater(round_away(x[j] * inverse) + 1, I{}), splat_int(3));
            words[j / 16] |= code << (2 * (j % 16));
        }
        store_half(batch, 0, to_half(largest));
        store_words(batch, 2, words, 4);
    });
}

static void dequantize_q2_0(const std::uint8_t *__restrict src, float *__restrict dst, std::int64_t count) {
    for (; count > 0; count -= BLOCK, src += SIZE, dst += BLOCK) {
        const float d = half_value(src);
        for (int j = 0; j < BLOCK; ++j) dst[j] = float((src[2 + j / 4] >> (2 * (j % 4)) & 3) - 1) * d;
    }
}

QM_FAMILY(q2_0, {"Q2_0", BLOCK, SIZE, quantize_q2_0, dequantize_q2_0, false})

}  // namespace quantmill::QM_LEVEL
