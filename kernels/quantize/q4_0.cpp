// Q4_0 and Q5_0: 32 weights as one fp16 scale and quants of 4 or 5 bits around zero.
#include "quantize/rows32.h"
#include "quantize/search_symmetric.h"

namespace quantmill::QM_LEVEL {

template <int BITS, int SIZE>
static void quantize_symmetric(const float *src, std::uint8_t *dst, std::int64_t rows, std::int64_t cols, const float *importance) {
    constexpr int NMAX = 1 << (BITS - 1);
    if (!importance) {
        for_batches<BLOCK, SIZE>(src, dst, rows, cols, nullptr, [](const Batch &batch) {
            V x[BLOCK], largest = {}, extreme = {};
            load_lanes(batch.src, 0, BLOCK, x);
            for (int j = 0; j < BLOCK; ++j) {
                const V magnitude = absolute(x[j]);
                const I larger = largest < magnitude;
                largest = select(larger, magnitude, largest);
                extreme = select(larger, x[j], extreme);
            }
            const V d = extreme / float(-NMAX);
            const V inverse = select(d == 0.f, V{}, 1.f / d);
            I q[BLOCK];
            for (int j = 0; j < BLOCK; ++j) {
                q[j] = lesser(signed_byte(truncate(x[j] * inverse + (NMAX + 0.5f))), splat_int(2 * NMAX - 1)) & 0xff;
            }
            store_half(batch, 0, to_half(d));
            store_quants<BITS>(batch, 2, q);
        });
        return;
    }
    for_row_batches<SIZE>(src, dst, rows, cols, importance, [](const Batch &batch, V variance) {
        V x[BLOCK], w[BLOCK];
        load_lanes(batch.src, 0, BLOCK, x);
        weigh<BLOCK>(batch, 0, variance, x, w);
        const Symmetric found = search_symmetric<BLOCK, NMAX>(x, w);
        I q[BLOCK];
        for (int j = 0; j < BLOCK; ++j) q[j] = symmetric_quant<NMAX>(found, x[j]);
        store_half(batch, 0, to_half(found.scale));
        store_quants<BITS>(batch, 2, q);
    });
}

static void quantize_q4_0(const float *src, std::uint8_t *dst, std::int64_t rows, std::int64_t cols, const float *importance,
                          Changes) {
    quantize_symmetric<4, 18>(src, dst, rows, cols, importance);
}

static void quantize_q5_0(const float *src, std::uint8_t *dst, std::int64_t rows, std::int64_t cols, const float *importance,
                          Changes) {
    quantize_symmetric<5, 22>(src, dst, rows, cols, importance);
}

static void dequantize_q4_0(const std::uint8_t *__restrict src, float *__restrict dst, std::int64_t count) {
    for (; count > 0; count -= BLOCK, src += 18, dst += BLOCK) {
        const float d = half_value(src);
        QM_ROLLED
        for (int j = 0; j < 16; ++j) dst[j] = float((src[2 + j] & 15) - 8) * d;
        QM_ROLLED
        for (int j = 0; j < 16; ++j) dst[16 + j] = float((src[2 + j] >> 4) - 8) * d;
    }
}

static void dequantize_q5_0(const std::uint8_t *__restrict src, float *__restrict dst, std::int64_t count) {
    for (; count > 0; count -= BLOCK, src += 22, dst += BLOCK) {
        const float d = half_value(src);
        std::uint32_t high;
        std::memcpy(&high, src + 2, 4);
        QM_ROLLED
        for (int j = 0; j < 16; ++j) dst[j] = float(int((src[6 + j] & 15) | ((high >> j) & 1) << 4) - 16) * d;
        QM_ROLLED
        for (int j = 0; j < 16; ++j) dst[16 + j] = float(int((src[6 + j] >> 4) | ((high >> (16 + j)) & 1) << 4) - 16) * d;
    }
}

// clang-format off
QM_FAMILY(q4_0, {"Q4_0", BLOCK, 18, quantize_q4_0, dequantize_q4_0, false},
                {"Q5_0", BLOCK, 22, quantize_q5_0, dequantize_q5_0, false})
// clang-format on

}  // namespace quantmill::QM_LEVEL
