// Q3_K: sixteen groups of 16 weights with a scale of 6 bits each; 32 bytes of third bits, 64 of quants, twelve of scales, d.
#include "quantize/search_symmetric.h"
#include "quantize/super.h"

namespace quantmill::QM_LEVEL {

constexpr int SIZE = 110, GROUPS = 16, GROUP = 16;

// The search without an importance vector (the reference's make_q3_quants): errors weigh x * x, and single quants are moved as
// long as that helps. Four groups run side by side, since each weight has to wait for the division of the one before it.
constexpr int ABREAST = 4;

// Writes the groups' quants, offset by 4, and their scales.
QM_OUTLINE void search_moving(const V *x, I *quants, V *scales) {
    V l[ABREAST * GROUP], product[ABREAST] = {}, square[ABREAST] = {};
    I zero[ABREAST];
    for (int g = 0; g < ABREAST; ++g) {
        V largest = {}, extreme = {};
        for (int j = GROUP * g; j < GROUP * (g + 1); ++j) {
            const V magnitude = absolute(x[j]);
            const I larger = magnitude > largest;
            largest = select(larger, magnitude, largest);
            extreme = select(larger, x[j], extreme);
        }
        zero[g] = largest < 1e-15f;
        const V inverse = -4.f / extreme;
        for (int j = GROUP * g; j < GROUP * (g + 1); ++j) {
            l[j] = nearest_clamped(inverse * x[j], -4, 3);
            const V w = x[j] * x[j];
            product[g] += w * x[j] * l[j];
            square[g] += w * l[j] * l[j];
        }
    }
    // A lane in which a pass changed nothing stays as it is in the passes that other lanes still need.
    for (int pass = 0; pass < 5; ++pass) {
        I changed = {};
        for (int first = 0; first < GROUP; ++first) {
            QM_UNROLL
            for (int g = 0; g < ABREAST; ++g) {
                const int j = GROUP * g + first;
                const V w = x[j] * x[j], wx = w * x[j];
                const V p = product[g] - wx * l[j], s = square[g] - w * l[j] * l[j];
                const V moved = nearest_clamped(x[j] * s / p, -4, 3);
                const V p_new = p + wx * moved, s_new = s + w * moved * moved;
                const I better = (p > 0.f) & (moved != l[j]) & (s_new > 0.f) &
                                 (p_new * p_new * square[g] > product[g] * product[g] * s_new);
                l[j] = select(better, moved, l[j]);
                product[g] = select(better, p_new, product[g]);
                square[g] = select(better, s_new, square[g]);
                changed |= better & ~zero[g];
            }
        }
        if (!any(changed)) break;
    }
    for (int g = 0; g < ABREAST; ++g) {
        for (int j = GROUP * g; j < GROUP * (g + 1); ++j) quants[j] = select(zero[g], I{}, truncate(l[j]) + 4);
        scales[g] = select(zero[g], V{}, product[g] / square[g]);
    }
}

// Scales offset by 32: low nibbles in eight bytes, groups g and g + 8 sharing one; upper bits in four, two a group.
QM_INLINE void pack_scales(const I *ls, I *bytes) {
    for (int j = 0; j < 8; ++j) bytes[j] = (ls[j] & 15) | (ls[j + 8] & 15) << 4;
    for (int j = 0; j < 4; ++j) {
        I byte = {};
        for (int k = 0; k < 4; ++k) byte |= (ls[j + 4 * k] >> 4) << (2 * k);
        bytes[8 + j] = byte & 0xff;
    }
}

static void quantize_q3_k(const float *src, std::uint8_t *dst, std::int64_t rows, std::int64_t cols, const float *importance,
                          Changes) {
    for_batches<SUPER, SIZE>(src, dst, rows, cols, importance, [=](const Batch &batch) {
        V x[SUPER], w[GROUP], scales[GROUPS], weights[GROUPS], d;
        I q[SUPER], ls[GROUPS], bytes[12], words[24];
        Symmetric found[GROUPS];
        load_lanes(batch.src, 0, SUPER, x);
        if (importance) {
            const V variance = 2.f * sum_of_squares<SUPER>(x) / 256.f;
            for (int g = 0; g < GROUPS; ++g) {
                weigh<GROUP>(batch, GROUP * g, variance, x + GROUP * g, w);
                weights[g] = sum_of<GROUP>(w);
                found[g] = search_symmetric<GROUP, 4>(x + GROUP * g, w);
                scales[g] = found[g].scale;
            }
            const Symmetric whole = search_symmetric<GROUPS, 32>(scales, weights);
            for (int g = 0; g < GROUPS; ++g) ls[g] = symmetric_quant<32>(whole, scales[g]);
            d = whole.scale;
        } else {
            V largest = {}, extreme = {};
            for (int g = 0; g < GROUPS; g += ABREAST) search_moving(x + GROUP * g, q + GROUP * g, scales + g);
            for (int g = 0; g < GROUPS; ++g) {
                const V magnitude = absolute(scales[g]);
                const I larger = magnitude > largest;
                largest = select(larger, magnitude, largest);
                extreme = select(larger, scales[g], extreme);
            }
            const I some = extreme != 0.f;
            const V inverse = -32.f / extreme;
            for (int g = 0; g < GROUPS; ++g) {
                const I l = signed_byte(nearest_int(inverse * scales[g]));
                ls[g] = select(some, lesser(greater(l, splat_int(-32)), splat_int(31)) + 32, I{});
            }
            d = select(some, 1.f / inverse, V{});
        }
        pack_scales(ls, bytes);
        const I dh = to_half(d);
        const V stored = from_half(dh);
        for (int g = 0; g < GROUPS; ++g) {
            const V *group = x + GROUP * g;
            I *quants = q + GROUP * g;
            const V scale = stored * to_float(((g < 8 ? bytes[g] & 15 : bytes[g - 8] >> 4) |
                                               ((bytes[8 + g % 4] >> (2 * (g / 4))) & 3) << 4) - 32);
            // q already holds the quants of the search that has no importance vector.
            I left[GROUP];
            for (int j = 0; j < GROUP; ++j) left[j] = quants[j];
            if (importance) {
                requantize<GROUP>(group, scale, V{}, -4, 3, quants, [&](int j) { return symmetric_quant<4>(found[g], group[j]); });
            } else {
                requantize<GROUP>(group, scale, V{}, -4, 3, quants, [&](int j) { return left[j]; });
            }
        }
        // Bit i of byte m is the third bit of weight 32 * i + m.
        for (int k = 0; k < 8; ++k) {
            I word = {};
            for (int byte = 0; byte < 4; ++byte) {
                for (int i = 0; i < 8; ++i) word |= ((q[32 * i + 4 * k + byte] >> 2) & 1) << (8 * byte + i);
            }
            words[k] = word;
        }
        pack_crumbs(q, words + 8);
        store_words(batch, 0, words, 24);
        store_bytes(batch, 96, bytes, 12);
        store_half(batch, 108, dh);
    });
}

static void dequantize_q3_k(const std::uint8_t *__restrict src, float *__restrict dst, std::int64_t count) {
    for (; count > 0; count -= SUPER, src += SIZE, dst += SUPER) {
        const std::uint8_t *bytes = src + 96;
        const float d = half_value(src + 108);
        for (int g = 0; g < GROUPS; ++g) {
            const int scale = (g < 8 ? bytes[g] & 15 : bytes[g - 8] >> 4) | ((bytes[8 + g % 4] >> (2 * (g / 4))) & 3) << 4;
            const float step = d * float(scale - 32);
            const std::uint8_t *quants = src + 32 + g / 8 * 32 + g % 2 * 16, *high = src + g % 2 * 16;
            const int shift = g % 8 / 2 * 2, bit = g / 2;
            for (int j = 0; j < GROUP; ++j) {
                dst[GROUP * g + j] = step * float((((quants[j] >> shift) & 3) | ((high[j] >> bit) & 1) << 2) - 4);
            }
        }
    }
}

QM_FAMILY(q3_k, {"Q3_K", SUPER, SIZE, quantize_q3_k, dequantize_q3_k, false})

}  // namespace quantmill::QM_LEVEL
