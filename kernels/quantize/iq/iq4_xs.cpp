// IQ4_XS: super-blocks of 256 weights in eight groups like IQ4_NL's, whose scales are 6-bit multiples of one fp16 scale.
#include "quantize/iq/iq4.h"

namespace quantmill::QM_LEVEL {

constexpr int SUPER = 256, SIZE = 136, GROUPS = SUPER / GROUP;

static void quantize_iq4_xs(const float *src, std::uint8_t *dst, std::int64_t rows, std::int64_t cols, const float *importance,
                            Changes arithmetic) {
    for_batches<SUPER, SIZE>(src, dst, rows, cols, importance, [arithmetic](const Batch &batch) {
        V x[SUPER], scales[GROUPS];
        load_lanes(batch.src, 0, SUPER, x);
        V sum = {};
        for (int j = 0; j < SUPER; ++j) sum += x[j] * x[j];
        const V variance = sum * (2.f / SUPER);
        V largest = {}, widest = {};
        for (int k = 0; k < GROUPS; ++k) {
            V w[GROUP];
            weigh_group(batch, GROUP * k, variance, x + GROUP * k, w);
            scales[k] = search_scale(x + GROUP * k, w, arithmetic);
            const I more = absolute(scales[k]) > largest;
            largest = select(more, absolute(scales[k]), largest);
            widest = select(more, scales[k], widest);
        }
        const V d = -widest / 32.f;
        const V inverse = select(d != 0.f, 1.f / d, V{});
        I words[2 + SUPER / 8] = {to_half(d)};
        for (int k = 0; k < GROUPS; ++k) {
            const I multiple = lesser(greater(nearest_int(inverse * scales[k]), splat_int(-32)), splat_int(31));
            const V scale = d * to_float(multiple);
            pack_group(select(scale != 0.f, 1.f / scale, V{}), x + GROUP * k, words + 2 + 4 * k);
            words[0] |= ((multiple + 32) >> 4) << (16 + 2 * k);
            words[1] |= ((multiple + 32) & 15) << (4 * k);
        }
        store_words(batch, 0, words, 2 + SUPER / 8);
    });
}

static void dequantize_iq4_xs(const std::uint8_t *src, float *dst, std::int64_t count) {
    for (; count > 0; count -= SUPER, src += SIZE, dst += SUPER) {
        const float d = half_value(src);
        for (int k = 0; k < GROUPS; ++k) {
            const int high = src[2 + k / 4] >> (2 * (k % 4)) & 3, low = src[4 + k / 2] >> (4 * (k % 2)) & 15;
            unpack_group(src + 8 + 16 * k, d * float((high << 4 | low) - 32), dst + GROUP * k);
        }
    }
}

QM_FAMILY(iq4_xs, {"IQ4_XS", SUPER, SIZE, quantize_iq4_xs, dequantize_iq4_xs, false})

}  // namespace quantmill::QM_LEVEL
