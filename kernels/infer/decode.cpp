// Every type's block as small integers: w = d * scale * value + dmin * min. The bits' places are those of each type's own file.
#include "common/grids.h"
#include "infer/level.h"

namespace quantmill::QM_LEVEL {

static int word_at(const std::uint8_t *from) { return from[0] | from[1] << 8; }

static std::uint32_t long_at(const std::uint8_t *from) {
    std::uint32_t word;
    std::memcpy(&word, from, 4);
    return word;
}

// ---- blocks of 32, 64 and 128 ----

static void q8_0(const std::uint8_t *src, Decoded &to) {
    to.d = half_value(src);
    std::memcpy(to.value, src + 2, 32);
}

QM_INLINE void nibbles(const std::uint8_t *src, std::int8_t *value) {
    for (int j = 0; j < 16; ++j) value[j] = std::int8_t(src[j] & 15), value[16 + j] = std::int8_t(src[j] >> 4);
}

static void q4_0(const std::uint8_t *src, Decoded &to) {
    to.d = half_value(src);
    nibbles(src + 2, to.value);
    for (int j = 0; j < 32; ++j) to.value[j] = std::int8_t(to.value[j] - 8);
}

static void q4_1(const std::uint8_t *src, Decoded &to) {
    to.d = half_value(src), to.dmin = half_value(src + 2);
    nibbles(src + 4, to.value);
}

QM_INLINE void fifth_bits(const std::uint8_t *src, std::int8_t *value) {
    const std::uint32_t high = long_at(src);
    for (int j = 0; j < 32; ++j) value[j] = std::int8_t(value[j] | (high >> j & 1) << 4);
}

static void q5_0(const std::uint8_t *src, Decoded &to) {
    to.d = half_value(src);
    nibbles(src + 6, to.value);
    fifth_bits(src + 2, to.value);
    for (int j = 0; j < 32; ++j) to.value[j] = std::int8_t(to.value[j] - 16);
}

static void q5_1(const std::uint8_t *src, Decoded &to) {
    to.d = half_value(src), to.dmin = half_value(src + 2);
    nibbles(src + 8, to.value);
    fifth_bits(src + 4, to.value);
}

static constexpr std::int8_t UNEVEN[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
static constexpr std::int8_t FLOATS[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

QM_INLINE void named(const std::uint8_t *src, const std::int8_t (&table)[16], std::int8_t *value) {
    for (int j = 0; j < 16; ++j) value[j] = table[src[j] & 15], value[16 + j] = table[src[j] >> 4];
}

static void iq4_nl(const std::uint8_t *src, Decoded &to) {
    to.d = half_value(src);
    named(src + 2, UNEVEN, to.value);
}

static void mxfp4(const std::uint8_t *src, Decoded &to) {
    const std::uint32_t exponent = src[0];
    const std::uint32_t word = exponent < 2 ? 0x00200000u << exponent : (exponent - 1) << 23;
    std::memcpy(&to.d, &word, 4);
    named(src + 1, FLOATS, to.value);
}

static void q2_0(const std::uint8_t *src, Decoded &to) {
    to.d = half_value(src);
    for (int j = 0; j < 64; ++j) to.value[j] = std::int8_t((src[2 + j / 4] >> (2 * (j % 4)) & 3) - 1);
}

static void q1_0(const std::uint8_t *src, Decoded &to) {
    to.d = half_value(src);
    for (int j = 0; j < 128; ++j) to.value[j] = src[2 + j / 8] >> (j % 8) & 1 ? 1 : -1;
}

// ---- super-blocks of 256 ----

static void q2_k(const std::uint8_t *src, Decoded &to) {
    to.d = half_value(src + 80), to.dmin = -half_value(src + 82);
    for (int g = 0; g < 16; ++g) to.scale[g] = std::int8_t(src[g] & 15), to.min[g] = std::uint8_t(src[g] >> 4);
    for (int part = 0; part < 8; ++part) {
        const std::uint8_t *quants = src + 16 + part / 4 * 32;
        for (int j = 0; j < 32; ++j) to.value[32 * part + j] = std::int8_t(quants[j] >> (2 * (part % 4)) & 3);
    }
}

static void q3_k(const std::uint8_t *src, Decoded &to) {
    const std::uint8_t *bytes = src + 96;
    to.d = half_value(src + 108);
    for (int g = 0; g < 16; ++g) {
        const int low = g < 8 ? bytes[g] & 15 : bytes[g - 8] >> 4;
        to.scale[g] = std::int8_t((low | (bytes[8 + g % 4] >> (2 * (g / 4)) & 3) << 4) - 32);
    }
    for (int part = 0; part < 8; ++part) {
        const std::uint8_t *quants = src + 32 + part / 4 * 32;
        for (int j = 0; j < 32; ++j) {
            to.value[32 * part + j] = std::int8_t(((quants[j] >> (2 * (part % 4)) & 3) | (src[j] >> part & 1) << 2) - 4);
        }
    }
}

// Six bits of scale and six of minimum for each of eight groups, in twelve bytes.
QM_INLINE void scales_of_6(const std::uint8_t *src, Decoded &to) {
    for (int g = 0; g < 4; ++g) {
        to.scale[g] = std::int8_t(src[g] & 63), to.min[g] = std::uint8_t(src[4 + g] & 63);
        to.scale[4 + g] = std::int8_t((src[8 + g] & 15) | src[g] >> 6 << 4);
        to.min[4 + g] = std::uint8_t(src[8 + g] >> 4 | src[4 + g] >> 6 << 4);
    }
}

static void q4_k(const std::uint8_t *src, Decoded &to) {
    to.d = half_value(src), to.dmin = -half_value(src + 2);
    scales_of_6(src + 4, to);
    for (int g = 0; g < 8; ++g) {
        const std::uint8_t *quants = src + 16 + g / 2 * 32;
        for (int j = 0; j < 32; ++j) to.value[32 * g + j] = std::int8_t(quants[j] >> (g % 2 * 4) & 15);
    }
}

static void q5_k(const std::uint8_t *src, Decoded &to) {
    to.d = half_value(src), to.dmin = -half_value(src + 2);
    scales_of_6(src + 4, to);
    for (int g = 0; g < 8; ++g) {
        const std::uint8_t *quants = src + 48 + g / 2 * 32, *high = src + 16;
        for (int j = 0; j < 32; ++j) {
            to.value[32 * g + j] = std::int8_t((quants[j] >> (g % 2 * 4) & 15) | (high[j] >> g & 1) << 4);
        }
    }
}

static void q6_k(const std::uint8_t *src, Decoded &to) {
    to.d = half_value(src + 208);
    std::memcpy(to.scale, src + 192, 16);
    for (int g = 0; g < 8; ++g) {
        const std::uint8_t *low = src + g / 4 * 64 + g % 2 * 32, *high = src + 128 + g / 4 * 32;
        const int nibble = g % 4 / 2 * 4, pair = g % 4 * 2;
        for (int j = 0; j < 32; ++j) {
            to.value[32 * g + j] = std::int8_t(((low[j] >> nibble & 15) | (high[j] >> pair & 3) << 4) - 32);
        }
    }
}

static void iq4_xs(const std::uint8_t *src, Decoded &to) {
    to.d = half_value(src);
    for (int g = 0; g < 8; ++g) {
        to.scale[g] = std::int8_t(((src[4 + g / 2] >> (g % 2 * 4) & 15) | (src[2 + g / 4] >> (2 * (g % 4)) & 3) << 4) - 32);
        named(src + 8 + 16 * g, UNEVEN, to.value + 32 * g);
    }
}

// Eight values of a grid, negated where a bit is set.
QM_INLINE void signed_values(const std::int8_t *point, int count, unsigned signs, std::int8_t *value) {
    for (int i = 0; i < count; ++i) value[i] = std::int8_t(signs >> i & 1 ? -point[i] : point[i]);
}

// The eighth sign makes their number even.
QM_INLINE unsigned even(unsigned seven) { return seven | unsigned(__builtin_parity(seven)) << 7; }

static void iq3_s(const std::uint8_t *src, Decoded &to) {
    const std::int8_t *points = grid_iq3_s().points;
    to.d = half_value(src);
    for (int g = 0; g < 8; ++g) {
        to.scale[g] = std::int8_t(1 + 2 * (src[106 + g / 2] >> (g % 2 * 4) & 15));
        for (int k = 0; k < 8; ++k) {
            const int index = src[2 + 8 * g + k] | (src[66 + g] >> k & 1) << 8;
            signed_values(points + 4 * index, 4, src[74 + 4 * g + k / 2] >> (k % 2 * 4), to.value + 32 * g + 4 * k);
        }
    }
}

static void iq3_xxs(const std::uint8_t *src, Decoded &to) {
    const std::int8_t *points = grid_iq3_xxs().points;
    to.d = half_value(src) * 0.25f;
    for (int g = 0; g < 8; ++g) {
        const std::uint32_t word = long_at(src + 66 + 4 * g);
        to.scale[g] = std::int8_t(1 + 2 * (word >> 28));
        for (int k = 0; k < 8; ++k) {
            const unsigned signs = even(word >> (7 * (k / 2)) & 127) >> (k % 2 * 4);
            signed_values(points + 4 * src[2 + 8 * g + k], 4, signs, to.value + 32 * g + 4 * k);
        }
    }
}

static void iq2_xxs(const std::uint8_t *src, Decoded &to) {
    const std::int8_t *points = grid_iq2_xxs().points;
    to.d = half_value(src) * 0.125f;
    for (int g = 0; g < 8; ++g) {
        const std::uint32_t word = long_at(src + 6 + 8 * g);
        to.scale[g] = std::int8_t(1 + 2 * (word >> 28));
        for (int k = 0; k < 4; ++k) {
            signed_values(points + 8 * src[2 + 8 * g + k], 8, even(word >> (7 * k) & 127), to.value + 32 * g + 8 * k);
        }
    }
}

static void iq2_xs(const std::uint8_t *src, Decoded &to) {
    const std::int8_t *points = grid_iq2_xs().points;
    to.d = half_value(src) * 0.125f;
    for (int g = 0; g < 16; ++g) to.scale[g] = std::int8_t(1 + 2 * (src[66 + g / 2] >> (g % 2 * 4) & 15));
    for (int k = 0; k < 32; ++k) {
        const int word = word_at(src + 2 + 2 * k);
        signed_values(points + 8 * (word & 511), 8, even(unsigned(word) >> 9), to.value + 8 * k);
    }
}

static void iq2_s(const std::uint8_t *src, Decoded &to) {
    const std::int8_t *points = grid_iq2_s().points;
    to.d = half_value(src) * 0.125f;
    for (int g = 0; g < 16; ++g) to.scale[g] = std::int8_t(1 + 2 * (src[74 + g / 2] >> (g % 2 * 4) & 15));
    for (int k = 0; k < 32; ++k) {
        const int index = src[2 + k] | (src[66 + k / 4] >> (2 * (k % 4)) & 3) << 8;
        signed_values(points + 8 * index, 8, src[34 + k], to.value + 8 * k);
    }
}

// Eight times a point of IQ1's grid and its shift, in eighths.
QM_INLINE void shifted(const std::int8_t *point, bool down, std::int8_t *value) {
    for (int i = 0; i < 8; ++i) value[i] = std::int8_t(8 * point[i] + (down ? -1 : 1));
}

static void iq1_s(const std::uint8_t *src, Decoded &to) {
    const std::int8_t *points = grid_iq1().points;
    to.d = half_value(src) * 0.125f;
    for (int g = 0; g < 8; ++g) {
        const int high = word_at(src + 34 + 2 * g);
        to.scale[g] = std::int8_t(2 * (high >> 12 & 7) + 1);
        for (int k = 0; k < 4; ++k) {
            const int index = src[2 + 4 * g + k] | (high >> 3 * k & 7) << 8;
            shifted(points + 8 * index, high & 0x8000, to.value + 32 * g + 8 * k);
        }
    }
}

static void iq1_m(const std::uint8_t *src, Decoded &to) {
    const std::int8_t *points = grid_iq1().points;
    const std::uint8_t *scales = src + 48;
    const std::uint8_t half[2] = {std::uint8_t(scales[1] >> 4 | (scales[3] & 0xf0)),
                                  std::uint8_t(scales[5] >> 4 | (scales[7] & 0xf0))};
    to.d = half_value(half) * 0.125f;
    for (int g = 0; g < 16; ++g) to.scale[g] = std::int8_t(2 * (word_at(scales + g / 4 * 2) >> 3 * (g % 4) & 7) + 1);
    for (int k = 0; k < 32; ++k) {
        const int high = src[32 + k / 2] >> (4 * (k % 2));
        shifted(points + 8 * (src[k] | (high & 7) << 8), high & 8, to.value + 8 * k);
    }
}

static void ones(Decoded &to) {
    for (int g = 0; g < 16; ++g) to.scale[g] = 1;
}

static void tq1_0(const std::uint8_t *src, Decoded &to) {
    // Trits of 160, 80 and 16 weights: first weight, first byte, bytes, trits in a byte.
    static constexpr int RUNS[3][4] = {{0, 0, 32, 5}, {160, 32, 16, 5}, {240, 48, 4, 4}};
    to.d = half_value(src + 52);
    ones(to);
    for (const int (&run)[4] : RUNS) {
        unsigned power = 1;
        for (int n = 0; n < run[3]; ++n, power *= 3) {
            for (int m = 0; m < run[2]; ++m) {
                const unsigned rest = src[run[1] + m] * power & 0xff;
                to.value[run[0] + n * run[2] + m] = std::int8_t(int(rest * 3 >> 8) - 1);
            }
        }
    }
}

static void tq2_0(const std::uint8_t *src, Decoded &to) {
    to.d = half_value(src + 64);
    ones(to);
    for (int part = 0; part < 8; ++part) {
        for (int j = 0; j < 32; ++j) {
            to.value[32 * part + j] = std::int8_t((src[part / 4 * 32 + j] >> (part % 4 * 2) & 3) - 1);
        }
    }
}

// Left without its function, a layout ends the build (-Werror=switch).
Decode decoder(const Form &form) {
    switch (form.layout) {
        case Layout::q8_0: return q8_0;
        case Layout::q4_0: return q4_0;
        case Layout::q4_1: return q4_1;
        case Layout::q5_0: return q5_0;
        case Layout::q5_1: return q5_1;
        case Layout::iq4_nl: return iq4_nl;
        case Layout::mxfp4: return mxfp4;
        case Layout::q2_0: return q2_0;
        case Layout::q1_0: return q1_0;
        case Layout::q2_k: return q2_k;
        case Layout::q3_k: return q3_k;
        case Layout::q4_k: return q4_k;
        case Layout::q5_k: return q5_k;
        case Layout::q6_k: return q6_k;
        case Layout::iq4_xs: return iq4_xs;
        case Layout::iq3_s: return iq3_s;
        case Layout::iq3_xxs: return iq3_xxs;
        case Layout::iq2_s: return iq2_s;
        case Layout::iq2_xs: return iq2_xs;
        case Layout::iq2_xxs: return iq2_xxs;
        case Layout::iq1_m: return iq1_m;
        case Layout::iq1_s: return iq1_s;
        case Layout::tq1_0: return tq1_0;
        case Layout::tq2_0: return tq2_0;
        case Layout::floats: return nullptr;
    }
    return nullptr;
}

}  // namespace quantmill::QM_LEVEL
