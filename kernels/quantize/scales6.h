// Q4_K and Q5_K: eight groups of 32 weights, each with a scale and a minimum of 6 bits, packed into twelve bytes.
#pragma once

#include "quantize/search_affine.h"
#include "quantize/search_scales.h"
#include "quantize/super.h"

namespace quantmill::QM_LEVEL {

constexpr int GROUPS = 8, GROUP = 32;

// What a super-block is quantized with: the words of its first sixteen bytes, and each group's scale and minimum as stored.
struct Header {
    I words[4];
    V scale[GROUPS], min[GROUPS];
};

// The first four groups' low six bits go into bytes of their own; the others' into nibbles and the first bytes' upper two bits.
// Values above 63 spill as they do in the reference.
QM_INLINE Header pack_header(V d, V dmin, const I *ls, const I *lm) {
    I bytes[12];
    for (int j = 0; j < 4; ++j) {
        bytes[j] = (ls[j] | (ls[j + 4] >> 4) << 6) & 0xff;
        bytes[j + 4] = (lm[j] | (lm[j + 4] >> 4) << 6) & 0xff;
        bytes[j + 8] = (ls[j + 4] & 15) | (lm[j + 4] & 15) << 4;
    }
    const I dh = to_half(d), mh = to_half(dmin);
    Header header;
    header.words[0] = dh | mh << 16;
    for (int k = 0; k < 3; ++k) {
        const I *b = bytes + 4 * k;
        header.words[1 + k] = b[0] | b[1] << 8 | b[2] << 16 | b[3] << 24;
    }
    const V stored = from_half(dh), stored_min = from_half(mh);
    for (int j = 0; j < 4; ++j) {
        header.scale[j] = stored * to_float(bytes[j] & 63);
        header.min[j] = stored_min * to_float(bytes[j + 4] & 63);
        header.scale[j + 4] = stored * to_float((bytes[j + 8] & 15) | (bytes[j] >> 6) << 4);
        header.min[j + 4] = stored_min * to_float((bytes[j + 8] >> 4) | (bytes[j + 4] >> 6) << 4);
    }
    return header;
}

// Finds every group's scale and minimum, and the quants of all 256 weights. `first`, `delta` and `steps` are those of the search
// without an importance vector; CUT says whether scales above 63 are cut with one.
template <int NMAX, bool CUT>
QM_INLINE Header quantize_groups(const Batch &batch, const V *x, float first, float delta, int steps, Changes arithmetic, I *q) {
    V w[GROUP], scales[GROUPS], mins[GROUPS], weights[GROUPS], d, dmin;
    I ls[GROUPS], lm[GROUPS];
    Affine found[GROUPS];
    const bool weighed = batch.importance[0] != nullptr;
    const V variance = 2.f * sum_of_squares<SUPER>(x) / 256.f;
    for (int g = 0; g < GROUPS; ++g) {
        const V *group = x + GROUP * g;
        if (weighed) {
            weigh<GROUP>(batch, GROUP * g, variance, group, w);
            weights[g] = sum_of<GROUP>(w);
            found[g] = search_affine<GROUP, NMAX>(group, w, -0.9f, 0.05f, 36);
        } else {
            const V mean = square_root(sum_of_squares<GROUP>(group) / 32.f);
            for (int j = 0; j < GROUP; ++j) w[j] = mean + absolute(group[j]);
            found[g] = search_affine<GROUP, NMAX>(group, w, first, delta, steps);
        }
        scales[g] = found[g].scale;
        mins[g] = -found[g].min;
    }
    if (weighed) {
        d = search_scales<GROUPS, 63>(scales, weights, ls, arithmetic);
        dmin = search_scales<GROUPS, 63>(mins, weights, lm, arithmetic);
    } else {
        V most = {}, deepest = {};
        for (int g = 0; g < GROUPS; ++g) {
            most = greater(scales[g], most);
            deepest = greater(mins[g], deepest);
        }
        const V inverse = select(most > 0.f, 63.f / most, V{}), inverse_min = select(deepest > 0.f, 63.f / deepest, V{});
        for (int g = 0; g < GROUPS; ++g) {
            ls[g] = nearest_int(inverse * scales[g]) & 0xff;
            lm[g] = nearest_int(inverse_min * mins[g]) & 0xff;
        }
        d = most / 63.f;
        dmin = deepest / 63.f;
    }
    if (CUT || !weighed) {
        for (int g = 0; g < GROUPS; ++g) {
            ls[g] = lesser(ls[g], splat_int(63));
            lm[g] = lesser(lm[g], splat_int(63));
        }
    }
    const Header header = pack_header(d, dmin, ls, lm);
    for (int g = 0; g < GROUPS; ++g) {
        const V *group = x + GROUP * g;
        requantize<GROUP>(group, header.scale[g], header.min[g], 0, NMAX, q + GROUP * g,
                          [&](int j) { return affine_quant<NMAX>(found[g], group[j]); });
    }
    return header;
}

// The scale and minimum of group g, from the twelve packed bytes.
QM_INLINE void unpack_group(const std::uint8_t *bytes, int g, int &scale, int &min) {
    if (g < 4) {
        scale = bytes[g] & 63;
        min = bytes[g + 4] & 63;
    } else {
        scale = (bytes[g + 4] & 15) | (bytes[g - 4] >> 6) << 4;
        min = (bytes[g + 4] >> 4) | (bytes[g] >> 6) << 4;
    }
}

}  // namespace quantmill::QM_LEVEL
