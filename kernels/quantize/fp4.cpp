// MXFP4: 32 weights as one power of two and values of four bits, a sign and a float of two bits of exponent and one of mantissa
// (E2M1). NVFP4: four groups of 16 weights, each with such values and a scale, a float without a sign of four bits of exponent and
// three of mantissa (UE4M3).
#include "common/simd.h"

namespace quantmill::QM_LEVEL {

constexpr int MX_BLOCK = 32, MX_SIZE = 17, NV_BLOCK = 64, NV_SIZE = 36, GROUPS = 4, GROUP = 16;

// Twice the values of E2M1, so that they are integers; scales are halved. There is no negative zero.
static constexpr float VALUES[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

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
    for_batches<MX_BLOCK, MX_SIZE>(src, dst, rows, cols, nullptr, [](const Batch &batch) {
        V x[MX_BLOCK], largest = {};
        load_lanes(batch.src, 0, MX_BLOCK, x);
        for (int j = 0; j < MX_BLOCK; ++j) largest = largest < absolute(x[j]) ? absolute(x[j]) : largest;
        const I exponent = scale_exponent(largest);
        const V scale = from_bits(select(exponent < 2, splat_int(0x00200000) << exponent, (exponent - 1) << 23));
        V middles[7];
        for (int i = 0; i < 7; ++i) {
            // A value beyond the largest float is infinitely far.
            const I reachable = VALUES[i + 1] * scale < __builtin_inff();
            middles[i] = select(reachable, 0.5f * (VALUES[i] + VALUES[i + 1]) * scale, splat(__builtin_inff()));
        }
        I q[MX_BLOCK];
        for (int j = 0; j < MX_BLOCK; ++j) {
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
    for (; count > 0; count -= MX_BLOCK, src += MX_SIZE, dst += MX_BLOCK) {
        // 2^(exponent - 128); the two smallest are subnormal.
        const std::uint32_t exponent = src[0];
        const std::uint32_t word = exponent < 2 ? 0x00200000u << exponent : (exponent - 1) << 23;
        float d;
        std::memcpy(&d, &word, 4);
        for (int j = 0; j < 16; ++j) dst[j] = VALUES[src[1 + j] & 15] * d;
        for (int j = 0; j < 16; ++j) dst[16 + j] = VALUES[src[1 + j] >> 4] * d;
    }
}

// UE4M3 of v >= 0: halves are rounded up; beyond its largest value, 448, that one stands.
QM_INLINE I to_scale(V v) {
    const I word = bits(lesser(v, splat(448.f)));
    const I code = (word >> 20) + (word >> 19 & 1) - ((127 - 7) << 3);
    const I subnormal = lesser(truncate(from_bits(word) * 512.f + 0.5f), splat_int(7));
    return select((word >> 23) <= 127 - 7, subnormal, select(code >= 15 << 3, splat_int(0x7e), code));
}

// Half of what a scale stands for, since the values are doubled.
QM_INLINE V from_scale(I code) {
    const I normal = ((code >> 3 & 15) + 127 - 8) << 23 | (code & 7) << 20;
    const V found = select((code & 0x78) == 0, to_float(code & 7) * 0x1p-10f, from_bits(normal));
    return select(code == 0x7f, V{}, found);  // ggml's not a number
}

// An importance vector changes nothing in this type.
static void quantize_nvfp4(const float *src, std::uint8_t *dst, std::int64_t rows, std::int64_t cols, const float *, Changes) {
    for_batches<NV_BLOCK, NV_SIZE>(src, dst, rows, cols, nullptr, [](const Batch &batch) {
        V x[NV_BLOCK];
        I bytes[NV_SIZE];
        load_lanes(batch.src, 0, NV_BLOCK, x);
        for (int g = 0; g < GROUPS; ++g) {
            V largest = {};
            for (int j = GROUP * g; j < GROUP * (g + 1); ++j) largest = greater(absolute(x[j]), largest);
            bytes[g] = to_scale(largest / 6.f);
            const V scale = from_scale(bytes[g]);
            I q[GROUP];
            for (int j = 0; j < GROUP; ++j) {
                // A value of the other sign is never strictly nearer than zero, which comes first. Of two that are equally near the
                // first counts, and so it does where a weight is so large that all are equally far in floats.
                const V a = absolute(x[GROUP * g + j]);
                V least = a;
                I index = {};
                for (int i = 1; i < 8; ++i) {
                    const V error = absolute(VALUES[i] * scale - a);
                    const I nearer = error < least;
                    index = select(nearer, splat_int(i), index);
                    least = select(nearer, error, least);
                }
                q[j] = index | ((x[GROUP * g + j] < 0.f) & (index > 0) & 8);
            }
            for (int j = 0; j < 8; ++j) bytes[GROUPS + 8 * g + j] = q[j] | q[8 + j] << 4;
        }
        store_bytes(batch, 0, bytes, NV_SIZE);
    });
}

static void dequantize_nvfp4(const std::uint8_t *src, float *dst, std::int64_t count) {
    for (; count > 0; count -= NV_BLOCK, src += NV_SIZE, dst += NV_BLOCK) {
        for (int g = 0; g < GROUPS; ++g) {
            const float d = from_scale(splat_int(src[g]))[0];
            const std::uint8_t *q = src + GROUPS + 8 * g;
            for (int j = 0; j < 8; ++j) dst[GROUP * g + j] = VALUES[q[j] & 15] * d;
            for (int j = 0; j < 8; ++j) dst[GROUP * g + 8 + j] = VALUES[q[j] >> 4] * d;
        }
    }
}

// clang-format off
QM_FAMILY(fp4, {"MXFP4", MX_BLOCK, MX_SIZE, quantize_mxfp4, dequantize_mxfp4, false},
               {"NVFP4", NV_BLOCK, NV_SIZE, quantize_nvfp4, dequantize_nvfp4, false})
// clang-format on

}  // namespace quantmill::QM_LEVEL
