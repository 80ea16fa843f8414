// IQ4_NL: 32 weights as one fp16 scale and 4-bit places in a list of sixteen values.
#include "quantize/iq/iq4.h"

namespace quantmill::QM_LEVEL {

constexpr int SIZE = 18;

static void quantize_iq4_nl(const float *src, std::uint8_t *dst, std::int64_t rows, std::int64_t cols, const float *importance,
                            Changes arithmetic) {
    for_batches<GROUP, SIZE>(src, dst, rows, cols, importance, [arithmetic](const Batch &batch) {
        V x[GROUP], w[GROUP];
        load_lanes(batch.src, 0, GROUP, x);
        V sum = {};
        for (int j = 0; j < GROUP; ++j) sum += x[j] * x[j];
        weigh_group(batch, 0, sum * (2.f / GROUP), x, w);
        const V scale = search_scale(x, w, arithmetic);
        I words[4];
        pack_group(select(scale != 0.f, 1.f / scale, V{}), x, words);
        store_half(batch, 0, to_half(scale));
        store_words(batch, 2, words, 4);
    });
}

static void dequantize_iq4_nl(const std::uint8_t *src, float *dst, std::int64_t count) {
    for (; count > 0; count -= GROUP, src += SIZE, dst += GROUP) unpack_group(src + 2, half_value(src), dst);
}

QM_FAMILY(iq4_nl, {"IQ4_NL", GROUP, SIZE, quantize_iq4_nl, dequantize_iq4_nl, false})

}  // namespace quantmill::QM_LEVEL
