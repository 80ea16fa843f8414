// Q1_0: 128 weights as one fp16 scale, their mean magnitude, and a sign each.
#include "common/simd.h"

namespace quantmill::QM_LEVEL {

constexpr int BLOCK = 128, SIZE = 18;

// An importance vector changes nothing in this type.
static void quantize_q1_0(const float *src, std::uint8_t *dst, std::int64_t rows, std::int64_t cols, const float *, Changes) {
    for_batches<BLOCK, SIZE>(src, dst, rows, cols, nullptr, [](const Batch &batch) {
        V x[BLOCK], sum = {};
        I words[4] = {};
        load_lanes(batch.src, 0, BLOCK, x);
        for (int j = 0; j < BLOCK; ++j) {
            sum += absolute(x[j]);
            words[j / 32] |= (x[j] >= 0.f) & std::int32_t(1u << (j % 32));
        }
        store_half(batch, 0, to_half(sum / float(BLOCK)));
        store_words(batch, 2, words, 4);
    });
}

static void dequantize_q1_0(const std::uint8_t *__restrict src, float *__restrict dst, std::int64_t count) {
    for (; count > 0; count -= BLOCK, src += SIZE, dst += BLOCK) {
        const float d = half_value(src);
        for (int j = 0; j < BLOCK; ++j) dst[j] = src[2 + j / 8] >> (j % 8) & 1 ? d : -d;
    }
}

QM_FAMILY(q1_0, {"Q1_0", BLOCK, SIZE, quantize_q1_0, dequantize_q1_0, false})

}  // namespace quantmill::QM_LEVEL
