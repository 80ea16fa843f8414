// Q6_K: sixteen groups of 16 weights with a signed byte of scale each; 128 bytes of low nibbles, 64 of upper bits, scales, d.
#include "quantize/search_symmetric.h"
#include "quantize/super.h"

namespace quantmill::QM_LEVEL {

constexpr int SIZE = 210, GROUPS = 16, GROUP = 16;

static void quantize_q6_k(const float *src, std::uint8_t *dst, std::int64_t rows, std::int64_t cols, const float *importance,
                          Changes) {
    for_batches<SUPER, SIZE>(src, dst, rows, cols, importance, [=](const Batch &batch) {
        V x[SUPER], w[GROUP], scales[GROUPS], largest = {}, extreme = {};
        I q[SUPER], bytes[GROUPS], words[48];
        Symmetric found[GROUPS];
        load_lanes(batch.src, 0, SUPER, x);
        for (int g = 0; g < GROUPS; ++g) {
            const V *group = x + GROUP * g;
            // This type takes the importance vector as it is.
            if (importance) {
                load_lanes(batch.importance, GROUP * g, GROUP, w);
            } else {
                for (int j = 0; j < GROUP; ++j) w[j] = group[j] * group[j];
            }
            found[g] = search_symmetric<GROUP, 32>(group, w);
            scales[g] = found[g].scale;
            const V magnitude = absolute(scales[g]);
            const I larger = magnitude > largest;
            largest = select(larger, magnitude, largest);
            extreme = select(larger, scales[g], extreme);
        }
        // Such a block is written as zeros throughout.
        const I zero = largest < 1e-15f;
        const V inverse = -128.f / extreme;
        const I dh = select(zero, I{}, to_half(1.f / inverse));
        const V stored = from_half(dh);
        for (int g = 0; g < GROUPS; ++g) {
            const V *group = x + GROUP * g;
            const I scale = signed_byte(lesser(nearest_int(inverse * scales[g]), splat_int(127)));
            bytes[g] = select(zero, I{}, scale & 0xff);
            requantize<GROUP>(group, stored * to_float(scale), V{}, -32, 31, q + GROUP * g,
                              [&](int j) { return select(zero, I{}, symmetric_quant<32>(found[g], group[j])); });
        }
        for (int half = 0; half < 2; ++half) {
            for (int k = 0; k < 8; ++k) {
                I low = {}, next = {}, high = {};
                for (int byte = 0; byte < 4; ++byte) {
                    const I *l = q + 128 * half + 4 * k + byte;
                    low |= ((l[0] & 15) | (l[64] & 15) << 4) << (8 * byte);
                    next |= ((l[32] & 15) | (l[96] & 15) << 4) << (8 * byte);
                    high |= (l[0] >> 4 | l[32] >> 4 << 2 | l[64] >> 4 << 4 | l[96] >> 4 << 6) << (8 * byte);
                }
                words[16 * half + k] = low;
                words[16 * half + 8 + k] = next;
                words[32 + 8 * half + k] = high;
            }
        }
        store_words(batch, 0, words, 48);
        store_bytes(batch, 192, bytes, GROUPS);
        store_half(batch, 208, dh);
    });
}

static void dequantize_q6_k(const std::uint8_t *__restrict src, float *__restrict dst, std::int64_t count) {
    for (; count > 0; count -= SUPER, src += SIZE, dst += SUPER) {
        const float d = half_value(src + 208);
        for (int g = 0; g < GROUPS; ++g) {
            const int half = g / 8, part = g % 8 / 2, side = g % 2 * 16;
            const float step = d * float(std::int8_t(src[192 + g]));
            const std::uint8_t *low = src + 64 * half + part % 2 * 32 + side, *high = src + 128 + 32 * half + side;
            for (int j = 0; j < GROUP; ++j) {
                const int l = ((low[j] >> (part / 2 * 4)) & 15) | ((high[j] >> (2 * part)) & 3) << 4;
                dst[GROUP * g + j] = step * float(l - 32);
            }
        }
    }
}

QM_FAMILY(q6_k, {"Q6_K", SUPER, SIZE, quantize_q6_k, dequantize_q6_k, false})

}  // namespace quantmill::QM_LEVEL
