// MXFP4: 32 weights as one power of two and values of four bits (E2M1). Only read: llama-quantize writes it for no ftype here.
#include "simd.h"

namespace quantmill::QM_LEVEL {

constexpr int BLOCK = 32, SIZE = 17;

// Twice the values that E2M1 can have, so that they are integers; the scale below is halved. There is no negative zero.
static constexpr float VALUES[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

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

QM_FAMILY(mxfp4, {"MXFP4", BLOCK, SIZE, nullptr, dequantize_mxfp4, false})

}  // namespace quantmill::QM_LEVEL
