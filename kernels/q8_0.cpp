// Q8_0: 32 weights as one fp16 scale and 32 signed bytes.
#include "simd.h"

namespace quantmill::QM_LEVEL {

constexpr int BLOCK = 32, SIZE = 34;

// An importance vector changes nothing in this type.
static void quantize_q8_0(const float *src, std::uint8_t *dst, std::int64_t rows, std::int64_t cols, const float *, int) {
    for_batches<BLOCK, SIZE>(src, dst, rows, cols, nullptr, [](const Batch &batch) {
        V x[BLOCK];
        load_lanes(batch.src, 0, BLOCK, x);
        V largest = {};
        for (int j = 0; j < BLOCK; ++j) {
            const V a = absolute(x[j]);
            largest = largest > a ? largest : a;
        }
        const V d = largest / 127.f;
        const V inverse = select(d == 0.f, V{}, 1.f / d);
        I q[BLOCK];
        for (int j = 0; j < BLOCK; ++j) q[j] = round_away(x[j] * inverse) & 0xff;
        store_half(batch, 0, to_half(d));
        store_bytes(batch, 2, q, BLOCK);
    });
}

static void dequantize_q8_0(const std::uint8_t *__restrict src, float *__restrict dst, std::int64_t count) {
    for (; count > 0; count -= BLOCK, src += SIZE, dst += BLOCK) {
        const float d = half_value(src);
        for (int j = 0; j < BLOCK; ++j) dst[j] = float(std::int8_t(src[2 + j])) * d;
    }
}

QM_FAMILY(q8_0, {"Q8_0", BLOCK, SIZE, quantize_q8_0, dequantize_q8_0, false})

}  // namespace quantmill::QM_LEVEL
