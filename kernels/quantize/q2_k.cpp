// Q2_K: sixteen groups of 16 weights, each with a scale and a minimum of 4 bits; sixteen bytes of those, 64 of quants, d, dmin.
#include "quantize/search_affine.h"
#include "quantize/search_scales.h"
#include "quantize/super.h"

namespace quantmill::QM_LEVEL {

constexpr int SIZE = 84, GROUPS = 16, GROUP = 16, NMAX = 3;

// Scale (or minimum) and quants of a super-block without weights: the largest becomes 15. A negative one wraps around a byte.
static V scale_to_largest(const V *values, I *quants) {
    V largest = {};
    for (int g = 0; g < GROUPS; ++g) largest = greater(values[g], largest);
    const I positive = largest > 0.f;
    const V inverse = 15.f / largest;
    for (int g = 0; g < GROUPS; ++g) quants[g] = select(positive, nearest_int(inverse * values[g]) & 0xff, I{});
    return select(positive, largest / 15.f, V{});
}

static void quantize_q2_k(const float *src, std::uint8_t *dst, std::int64_t rows, std::int64_t cols, const float *importance,
                          Changes arithmetic) {
    for_batches<SUPER, SIZE>(src, dst, rows, cols, importance, [=](const Batch &batch) {
        V x[SUPER], w[GROUP], scales[GROUPS], mins[GROUPS], weights[GROUPS], d, dmin;
        I q[SUPER], ls[GROUPS], lm[GROUPS], words[21];
        Affine found[GROUPS];
        load_lanes(batch.src, 0, SUPER, x);
        const V variance = sum_of_squares<SUPER>(x) / 256.f;
        for (int g = 0; g < GROUPS; ++g) {
            const V *group = x + GROUP * g;
            if (importance) {
                weigh<GROUP>(batch, GROUP * g, variance, group, w);
                weights[g] = sum_of<GROUP>(w);
                found[g] = search_affine<GROUP, NMAX>(group, w, -0.9f, 0.05f, 36);
            } else {
                for (int j = 0; j < GROUP; ++j) w[j] = absolute(group[j]);
                found[g] = search_affine<GROUP, NMAX, true>(group, w, -0.5f, 0.1f, 15);
            }
            scales[g] = found[g].scale;
            mins[g] = -found[g].min;
        }
        if (importance) {
            d = search_scales<GROUPS, 15>(scales, weights, ls, arithmetic);
            dmin = search_scales<GROUPS, 15>(mins, weights, lm, arithmetic);
        } else {
            d = scale_to_largest(scales, ls);
            dmin = scale_to_largest(mins, lm);
        }
        const I dh = to_half(d), mh = to_half(dmin);
        const V stored = from_half(dh), stored_min = from_half(mh);
        for (int g = 0; g < GROUPS; ++g) {
            const V *group = x + GROUP * g;
            const I byte = (ls[g] | lm[g] << 4) & 0xff;
            words[g / 4] = (g % 4 ? words[g / 4] : I{}) | byte << (8 * (g % 4));
            requantize<GROUP>(group, stored * to_float(byte & 15), stored_min * to_float(byte >> 4), 0, NMAX, q + GROUP * g,
                              [&](int j) { return affine_quant<NMAX>(found[g], group[j]); });
        }
        pack_crumbs(q, words + 4);
        words[20] = dh | mh << 16;
        store_words(batch, 0, words, 21);
    });
}

static void dequantize_q2_k(const std::uint8_t *__restrict src, float *__restrict dst, std::int64_t count) {
    for (; count > 0; count -= SUPER, src += SIZE, dst += SUPER) {
        const float d = half_value(src + 80), dmin = half_value(src + 82);
        for (int g = 0; g < GROUPS; ++g) {
            const float step = d * float(src[g] & 15), base = dmin * float(src[g] >> 4);
            const std::uint8_t *quants = src + 16 + g / 8 * 32 + g % 2 * 16;
            const int shift = g % 8 / 2 * 2;
            for (int j = 0; j < GROUP; ++j) dst[GROUP * g + j] = step * float((quants[j] >> shift) & 3) - base;
        }
    }
}

QM_FAMILY(q2_k, {"Q2_K", SUPER, SIZE, quantize_q2_k, dequantize_q2_k, false})

}  // namespace quantmill::QM_LEVEL
