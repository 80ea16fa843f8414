// MXFP4: 32 weights as one power of two and values of four bits (E2M1).
#include "quantize/fp4.h"

namespace quantmill::QM_LEVEL {

constexpr int BLOCK = 32, SIZE = 17;

// floor(log2f(v)) + 125, modulo 256, for v >= 0 as C's single-precision logarithm rounds it; 0 for zero and infinity.
//
// Just below a power of two, 2^k, the logarithm is rounded to k itself once k - log2(v) is less than half the distance of
// floats there, so the exponent alone would be one too small. The half distance is p * 2^-24 with p the largest power of two up
// to n = k - 1, or -k where k is not positive; hence v >= 2^k * (1 - m * 2^-24) with m = floor(p * ln 2).
QM_INLINE I scale_exponent(V v) {
    const I subnormal = v < 0x1p-126f;
    const I word = bits(select(subnormal, v * 0x1p24f, v));
    I k = (word >> 23) - select(subnormal, splat_int(126 + 24), splat_int(126));
    const I n = select(k > 0, k - 1, -k);
    const V power = from_bits(bits(to_float(n)) & 0x7f800000);
    const I lifted = 0x00800000 - (word & 0x007fffff) <= truncate(power * 0.693147f);
    k -= select(lifted, splat_int(0), splat_int(1));
    return select((v > 0.f) & (v < __builtin_inff()), (k + 125) & 0xff, I{});
}

// An importance vector changes nothing in this type.
static void quantize_mxfp4(const float *src, std::uint8_t *dst, std::int64_t rows, std::int64_t cols, const float *, Changes) {
    for_batches<BLOCK, SIZE>(src, dst, rows, cols, nullptr, [](const Batch &batch) {
        V x[BLOCK], largest = {};
        load_lanes(batch.src, 0, BLOCK, x);
        for (int j = 0; j < BLOCK; ++j) largest = largest < absolute(x[j]) ? absolute(x[j]) : largest;
        const I exponent = scale_exponent(largest);
        const V scale = from_bits(select(exponent < 2, splat_int(0x00200000) << exponent, (exponent - 1) << 23));
        V middles[7];
        for (int i = 0; i < 7; ++i) {
            // A value beyond the largest float is infinitely far.
            const I reachable = VALUES[i + 1] * scale < __builtin_inff();
            middles[i] = select(reachable, 0.5f * (VALUES[i] + VALUES[i + 1]) * scale, splat(__builtin_inff()));
        }
        I q[BLOCK];
        for (int j = 0; j < BLOCK; ++j) {
            // The values are symmetric, and one of the other sign is never strictly nearer than zero, which comes first. Of two
            // that are equally near the first counts. Infinity is equally far from all.
            const V a = absolute(x[j]);
            I index = {};
            for (int i = 0; i < 7; ++i) index -= a > middles[i];
            index &= a < __builtin_inff();
            q[j] = index | ((x[j] < 0.f) & (index > 0) & 8);
        }
        I bytes[16];
        for (int j = 0; j < 16; ++j) bytes[j] = q[j] | q[j + 16] << 4;
        for (int i = 0; i < batch.valid; ++i) batch.dst[i][0] = std::uint8_t(exponent[i]);
        store_bytes(batch, 1, bytes, 16);
    });
}

static void dequantize_mxfp4(const std::uint8_t *src, float *dst, std::int64_t count) {
    for (; count > 0; count -= BLOCK, src += SIZE, dst += BLOCK) {
        // 2^(exponent - 128); the two smallest are subnormal.
        const std::uint32_t exponent = src[0];
        const std::uint32_t word = exponent < 2 ? 0x00200000u << exponent : (exponent - 1) << 23;
        float d;
        std::memcpy(&d, &word, 4);
        for (int j = 0; j < 16; ++j) dst[j] = VALUES[src[1 + j] & 15] * d;
        for (int j = 0; j < 16; ++j) dst[16 + j] = VALUES[src[1 + j] >> 4] * d;
    }
}

QM_FAMILY(mxfp4, {"MXFP4", BLOCK, SIZE, quantize_mxfp4, dequantize_mxfp4, false})

}  // namespace quantmill::QM_LEVEL
