// Q4_1 and Q5_1: 32 weights as fp16 scale and minimum and quants of 4 or 5 bits.
#include "quantize/rows32.h"
#include "quantize/search_affine.h"

namespace quantmill::QM_LEVEL {

template <int BITS, int SIZE>
static void quantize_affine(const float *src, std::uint8_t *dst, std::int64_t rows, std::int64_t cols, const float *importance) {
    constexpr int NMAX = (1 << BITS) - 1;
    if (!importance) {
        for_batches<BLOCK, SIZE>(src, dst, rows, cols, nullptr, [](const Batch &batch) {
            V x[BLOCK], min = splat(3.40282346638528859812e+38f), max = -min;
            load_lanes(batch.src, 0, BLOCK, x);
            for (int j = 0; j < BLOCK; ++j) {
                min = lesser(x[j], min);
                max = greater(x[j], max);
            }
            const V d = (max - min) / float(NMAX);
            const V inverse = select(d == 0.f, V{}, 1.f / d);
            I q[BLOCK];
            for (int j = 0; j < BLOCK; ++j) {
                q[j] = truncate((x[j] - min) * inverse + 0.5f);
                // Four bits pass through a signed byte and are cut at 15, five bits are taken as they come.
                q[j] = BITS == 4 ? lesser(signed_byte(q[j]), splat_int(NMAX)) & 0xff : q[j] & 0xff;
            }
            store_half(batch, 0, to_half(d));
            store_half(batch, 2, to_half(min));
            store_quants<BITS>(batch, 4, q);
        });
        return;
    }
    for_row_batches<SIZE>(src, dst, rows, cols, importance, [](const Batch &batch, V variance) {
        V x[BLOCK], w[BLOCK];
        load_lanes(batch.src, 0, BLOCK, x);
        weigh<BLOCK>(batch, 0, variance, x, w);
        const Affine found = search_affine<BLOCK, NMAX>(x, w, -0.9f, 0.05f, 36);
        I q[BLOCK];
        for (int j = 0; j < BLOCK; ++j) q[j] = affine_quant<NMAX>(found, x[j]);
        store_half(batch, 0, to_half(found.scale));
        store_half(batch, 2, to_half(found.min));
        store_quants<BITS>(batch, 4, q);
    });
}

static void quantize_q4_1(const float *src, std::uint8_t *dst, std::int64_t rows, std::int64_t cols, const float *importance,
                          Changes) {
    quantize_affine<4, 20>(src, dst, rows, cols, importance);
}

static void quantize_q5_1(const float *src, std::uint8_t *dst, std::int64_t rows, std::int64_t cols, const float *importance,
                          Changes) {
    quantize_affine<5, 24>(src, dst, rows, cols, importance);
}

static void dequantize_q4_1(const std::uint8_t *__restrict src, float *__restrict dst, std::int64_t count) {
    for (; count > 0; count -= BLOCK, src += 20, dst += BLOCK) {
        const float d = half_value(src), m = half_value(src + 2);
        QM_ROLLED
        for (int j = 0; j < 16; ++j) dst[j] = float(src[4 + j] & 15) * d + m;
        QM_ROLLED
        for (int j = 0; j < 16; ++j) dst[16 + j] = float(src[4 + j] >> 4) * d + m;
    }
}

static void dequantize_q5_1(const std::uint8_t *__restrict src, float *__restrict dst, std::int64_t count) {
    for (; count > 0; count -= BLOCK, src += 24, dst += BLOCK) {
        const float d = half_value(src), m = half_value(src + 2);
        std::uint32_t high;
        std::memcpy(&high, src + 4, 4);
        QM_ROLLED
        for (int j = 0; j < 16; ++j) dst[j] = float(int((src[8 + j] & 15) | ((high >> j) & 1) << 4)) * d + m;
        QM_ROLLED
        for (int j = 0; j < 16; ++j) dst[16 + j] = float(int((src[8 + j] >> 4) | ((high >> (16 + j)) & 1) << 4)) * d + m;
    }
}

// clang-format off
QM_FAMILY(q4_1, {"Q4_1", BLOCK, 20, quantize_q4_1, dequantize_q4_1, false},
                {"Q5_1", BLOCK, 24, quantize_q5_1, dequantize_q5_1, false})
// clang-format on

}  // namespace quantmill::QM_LEVEL
