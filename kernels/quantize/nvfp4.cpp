// NVFP4: four groups of 16 weights with a scale each, a float without a sign of four bits of exponent and three of mantissa (UE4M3),
// and values of four bits (E2M1).
#include "quantize/fp4.h"

namespace quantmill::QM_LEVEL {

constexpr int BLOCK = 64, SIZE = 36, GROUPS = 4, GROUP = 16;

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
    for_batches<BLOCK, SIZE>(src, dst, rows, cols, nullptr, [](const Batch &batch) {
        V x[BLOCK];
        I bytes[SIZE];
        load_lanes(batch.src, 0, BLOCK, x);
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
        store_bytes(batch, 0, bytes, SIZE);
    });
}

static void dequantize_nvfp4(const std::uint8_t *src, float *dst, std::int64_t count) {
    for (; count > 0; count -= BLOCK, src += SIZE, dst += BLOCK) {
        for (int g = 0; g < GROUPS; ++g) {
            const float d = from_scale(splat_int(src[g]))[0];
            const std::uint8_t *q = src + GROUPS + 8 * g;
            for (int j = 0; j < 8; ++j) dst[GROUP * g + j] = VALUES[q[j] & 15] * d;
            for (int j = 0; j < 8; ++j) dst[GROUP * g + 8 + j] = VALUES[q[j] >> 4] * d;
        }
    }
}

QM_FAMILY(nvfp4, {"NVFP4", BLOCK, SIZE, quantize_nvfp4, dequantize_nvfp4, false})

}  // namespace quantmill::QM_LEVEL
