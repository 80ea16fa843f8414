// TQ1_0: 256 weights as bytes of five trits (the last four of four), scaled so that multiplying by 3 shifts out the next trit; and
// one fp16 scale.
#include "quantize/tq.h"

namespace quantmill::QM_LEVEL {

constexpr int SIZE = 54;

// Byte m of a run of `bytes` holds weights m, m + bytes, m + 2 * bytes, ...
struct Run {
    int byte, bytes, weight, trits;
};
static constexpr Run RUNS[3] = {{0, 32, 0, 5}, {32, 16, 160, 5}, {48, 4, 240, 4}};

// A number of five trits as the fraction of 256 that is nearest above its fraction of 3^5.
QM_INLINE I scaled(I trits) { return ((trits & 0xff) * 256 + 242) / 243; }

// An importance vector changes nothing in this type.
static void quantize_tq1_0(const float *src, std::uint8_t *dst, std::int64_t rows, std::int64_t cols, const float *, Changes) {
    for (std::int64_t left = rows * cols; left > 0; left -= SUPER, src += SUPER, dst += SIZE) {
        const float d = largest_magnitude(src);
        const float inverse = d != 0 ? 1 / d : 0;
        for (int r = 0; r < 2; ++r) {
            const Run run = RUNS[r];
            for (int m = 0; m < run.bytes; m += W) {
                I q = {};
                for (int n = 0; n < 5; ++n) q = q * 3 + trits(src + run.weight + m + n * run.bytes, inverse);
                store_lane_bytes(scaled(q), dst + run.byte + m);
            }
        }
        // The last run is shorter than a vector: 16 weights, whose trits are combined one by one.
        std::int32_t last[16];
        for (int j = 0; j < 16; j += W) {
            const I q = trits(src + 240 + j, inverse);
            std::memcpy(last + j, &q, sizeof q);
        }
        for (int m = 0; m < 4; ++m) {
            const int q = ((last[m] * 3 + last[m + 4]) * 3 + last[m + 8]) * 3 + last[m + 12];
            dst[48 + m] = std::uint8_t(((q * 3 & 0xff) * 256 + 242) / 243);
        }
        store_half(dst + 52, d);
    }
}

static void dequantize_tq1_0(const std::uint8_t *src, float *dst, std::int64_t count) {
    for (; count > 0; count -= SUPER, src += SIZE, dst += SUPER) {
        const float d = half_value(src + 52);
        for (const Run &run : RUNS) {
            unsigned power = 1;
            for (int n = 0; n < run.trits; ++n, power *= 3) {
                for (int m = 0; m < run.bytes; ++m) {
                    const unsigned rest = src[run.byte + m] * power & 0xff;
                    dst[run.weight + n * run.bytes + m] = float(int(rest * 3 >> 8) - 1) * d;
                }
            }
        }
    }
}

QM_FAMILY(tq1_0, {"TQ1_0", SUPER, SIZE, quantize_tq1_0, dequantize_tq1_0, false})

}  // namespace quantmill::QM_LEVEL
