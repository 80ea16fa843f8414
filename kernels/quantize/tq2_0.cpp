// TQ2_0: 256 weights as 64 bytes of four 2-bit trits each and one fp16 scale.
#include "quantize/tq.h"

namespace quantmill::QM_LEVEL {

constexpr int SIZE = 66;

// An importance vector changes nothing in this type.
static void quantize_tq2_0(const float *src, std::uint8_t *dst, std::int64_t rows, std::int64_t cols, const float *, Changes) {
    for (std::int64_t left = rows * cols; left > 0; left -= SUPER, src += SUPER, dst += SIZE) {
        const float d = largest_magnitude(src);
        const float inverse = d != 0 ? 1 / d : 0;
        for (int half = 0; half < 2; ++half) {
            QM_UNROLL
            for (int m = 0; m < 32; m += W) {
                const float *x = src + 128 * half + m;
                I byte = {};
                for (int n = 0; n < 4; ++n) byte |= (trits(x + 32 * n, inverse) & 3) << (2 * n);
                store_lane_bytes(byte, dst + 32 * half + m);
            }
        }
        store_half(dst + 64, d);
    }
}

static void dequantize_tq2_0(const std::uint8_t *src, float *dst, std::int64_t count) {
    for (; count > 0; count -= SUPER, src += SIZE, dst += SUPER) {
        const float d = half_value(src + 64);
        for (int j = 0; j < SUPER; ++j) {
            const int trit = src[j / 128 * 32 + j % 32] >> (j % 128 / 32 * 2) & 3;
            dst[j] = float(trit - 1) * d;
        }
    }
}

QM_FAMILY(tq2_0, {"TQ2_0", SUPER, SIZE, quantize_tq2_0, dequantize_tq2_0, false})

}  // namespace quantmill::QM_LEVEL
