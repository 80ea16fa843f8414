// Q4_K: d, dmin, twelve bytes of scales and minima, 128 bytes of quants.
#include "quantize/scales6.h"

namespace quantmill::QM_LEVEL {

constexpr int SIZE = 144;

static void quantize_q4_k(const float *src, std::uint8_t *dst, std::int64_t rows, std::int64_t cols, const float *importance,
                          Changes arithmetic) {
    for_batches<SUPER, SIZE>(src, dst, rows, cols, importance, [=](const Batch &batch) {
        V x[SUPER];
        I q[SUPER], words[36];
        load_lanes(batch.src, 0, SUPER, x);
        const Header header = quantize_groups<15, false>(batch, x, -1.f, 0.1f, 20, arithmetic, q);
        std::memcpy(words, header.words, sizeof header.words);
        pack_nibbles(q, words + 4);
        store_words(batch, 0, words, 36);
    });
}

static void dequantize_q4_k(const std::uint8_t *__restrict src, float *__restrict dst, std::int64_t count) {
    for (; count > 0; count -= SUPER, src += SIZE, dst += SUPER) {
        const float d = half_value(src), dmin = half_value(src + 2);
        for (int g = 0; g < GROUPS; ++g) {
            int scale, min;
            unpack_group(src + 4, g, scale, min);
            const float step = d * float(scale), base = dmin * float(min);
            const std::uint8_t *quants = src + 16 + g / 2 * 32;
            const int shift = g % 2 * 4;
            for (int j = 0; j < GROUP; ++j) dst[GROUP * g + j] = step * float((quants[j] >> shift) & 15) - base;
        }
    }
}

QM_FAMILY(q4_k, {"Q4_K", SUPER, SIZE, quantize_q4_k, dequantize_q4_k, false})

}  // namespace quantmill::QM_LEVEL
