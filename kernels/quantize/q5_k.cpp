// Q5_K: d, dmin, twelve bytes of scales and minima, 32 bytes of fifth bits, 128 bytes of quants.
#include "quantize/scales6.h"

namespace quantmill::QM_LEVEL {

constexpr int SIZE = 176;

static void quantize_q5_k(const float *src, std::uint8_t *dst, std::int64_t rows, std::int64_t cols, const float *importance,
                          Changes arithmetic) {
    for_batches<SUPER, SIZE>(src, dst, rows, cols, importance, [=](const Batch &batch) {
        V x[SUPER];
        I q[SUPER], words[44];
        load_lanes(batch.src, 0, SUPER, x);
        const Header header = quantize_groups<31, true>(batch, x, -0.5f, 0.1f, 15, arithmetic, q);
        std::memcpy(words, header.words, sizeof header.words);
        // Bit g of byte j is the fifth bit of weight j of group g.
        for (int k = 0; k < 8; ++k) {
            I word = {};
            for (int byte = 0; byte < 4; ++byte) {
                for (int g = 0; g < GROUPS; ++g) word |= (q[GROUP * g + 4 * k + byte] >> 4) << (8 * byte + g);
            }
            words[4 + k] = word;
        }
        pack_nibbles(q, words + 12);
        store_words(batch, 0, words, 44);
    });
}

static void dequantize_q5_k(const std::uint8_t *__restrict src, float *__restrict dst, std::int64_t count) {
    for (; count > 0; count -= SUPER, src += SIZE, dst += SUPER) {
        const float d = half_value(src), dmin = half_value(src + 2);
        const std::uint8_t *high = src + 16;
        for (int g = 0; g < GROUPS; ++g) {
            int scale, min;
            unpack_group(src + 4, g, scale, min);
            const float step = d * float(scale), base = dmin * float(min);
            const std::uint8_t *quants = src + 48 + g / 2 * 32;
            const int shift = g % 2 * 4;
            for (int j = 0; j < GROUP; ++j) {
                dst[GROUP * g + j] = step * float(((quants[j] >> shift) & 15) | ((high[j] >> g) & 1) << 4) - base;
            }
        }
    }
}

QM_FAMILY(q5_k, {"Q5_K", SUPER, SIZE, quantize_q5_k, dequantize_q5_k, false})

}  // namespace quantmill::QM_LEVEL
