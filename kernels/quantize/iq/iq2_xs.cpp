// IQ2_XS and IQ2_S: sixteen groups of 16 weights with a scale of 4 bits each; every eight weights are a point of a grid (512
// or 1024 points) and their signs: seven bits, an even number of them set, or all eight.
#include "quantize/iq/iq2_signs.h"
#include "quantize/iq/search_lattice.h"

namespace quantmill::QM_LEVEL {

constexpr int GROUPS = 16, GROUP = 16, SIZE_XS = 74, SIZE_S = 82;

// What a super-block is before it is packed. Groups that are (nearly) zero have scale 0, point 0 and no signs.
struct Found {
    V scales[GROUPS];
    I codes[GROUPS][2], signs[GROUPS][2];
    I zero[GROUPS];  // mask: a group that is not searched
    I won[GROUPS];   // mask: the search found something
};

template <bool EVEN_SIGNS>
static void search_group(const Grid &grid, const Batch &batch, int g, const V *x, V variance, I valid, Found &found) {
    Lattice<GROUP> lattice;
    if (batch.importance[0]) {
        weigh<GROUP>(batch, GROUP * g, variance, x, lattice.w);
    } else {
        for (int i = 0; i < GROUP; ++i) lattice.w[i] = 0.25f * variance + x[i] * x[i];
    }
    for (int i = 0; i < GROUP; ++i) lattice.root[i] = square_root(lattice.w[i]);
    for (int k = 0; k < 2; ++k) {
        found.signs[g][k] = EVEN_SIGNS ? split_even_signs(x + 8 * k, lattice.w + 8 * k, lattice.x + 8 * k)
                                       : split_signs(x + 8 * k, lattice.x + 8 * k);
    }
    V max = lattice.x[0];
    for (int i = 1; i < GROUP; ++i) max = greater(max, lattice.x[i]);
    const I zero = max < (EVEN_SIGNS ? 1e-15f : 1e-8f), active = ~zero & valid;
    lattice.scale = max / 5.f;
    search_lattice<GROUP, 9>(grid, lattice, max, active);
    I todo[2];
    for (int k = 0; k < 2; ++k) todo[k] = active & ~lattice.on_grid[k] & (lattice.scale > 0.f);
    if (any(todo[0] | todo[1])) refine_lattice<GROUP>(grid, lattice, todo);
    const I negative = lattice.scale < 0.f;
    found.scales[g] = select(zero, V{}, absolute(lattice.scale));
    found.zero[g] = zero;
    found.won[g] = lattice.won;
    for (int k = 0; k < 2; ++k) {
        const I signs = found.signs[g][k] ^ (negative & (EVEN_SIGNS ? 127 : 255));
        found.signs[g][k] = select(zero, I{}, signs);
        found.codes[g][k] = select(lattice.won, lattice.code[k], I{});
    }
}

// Not cleared, a group whose search finds nothing keeps the points of the group before it, in the order of memory, across
// the blocks and rows of one call. Where it is the first of all it would keep what was on the stack. IQ2_XS stopped there when
// measured: such a call is made as if cleared, where these groups take point 0. IQ2_S found zeros there: point 0.
struct Left {
    bool keep;     // nothing is cleared
    bool defined;
    std::int32_t codes[2] = {0, 0};
};

static void keep_left(const Batch &batch, bool zero_clears, Found &found, Left &left) {
    for (int lane = 0; lane < batch.valid; ++lane) {
        for (int g = 0; g < GROUPS; ++g) {
            const bool zero = found.zero[g][lane], sets = zero ? zero_clears : found.won[g][lane];
            if (!sets && !zero && !left.defined) {
                left.keep = false;
                return;
            }
            left.defined |= sets;
            for (int k = 0; k < 2; ++k) {
                if (sets) left.codes[k] = zero ? 0 : found.codes[g][k][lane];
                else if (!zero) found.codes[g][k][lane] = left.codes[k];
            }
        }
    }
}

// Searches all groups of W super-blocks, turns codes into indices and returns the largest scale.
template <bool EVEN_SIGNS>
static V search_blocks(const Grid &grid, const Batch &batch, Found &found, Left &left) {
    V x[SUPER];
    load_lanes(batch.src, 0, SUPER, x);
    V variance = sum_of_squares<SUPER>(x);
    variance = (EVEN_SIGNS ? variance : 2.f * variance) / 256.f;
    I valid = {};
    for (int lane = 0; lane < batch.valid; ++lane) valid[lane] = -1;
    V max = {};
    for (int g = 0; g < GROUPS; ++g) {
        search_group<EVEN_SIGNS>(grid, batch, g, x + GROUP * g, variance, valid, found);
        max = greater(max, found.scales[g]);
    }
    if (left.keep) keep_left(batch, EVEN_SIGNS, found, left);
    for (int g = 0; g < GROUPS; ++g) {
        for (int k = 0; k < 2; ++k) {
            for (int lane = 0; lane < W; ++lane) found.codes[g][k][lane] = grid.map[found.codes[g][k][lane]];
        }
    }
    return max;
}

// Scales as odd multiples of d / 2 in four bits, eight to a word.
static void pack_scales(const V *scales, V d, I nonzero, I *words) {
    const V inverse = 1.f / d;
    words[0] = words[1] = I{};
    for (int g = 0; g < GROUPS; ++g) {
        const I l = bits(nearest_clamped(0.5f * (inverse * scales[g] - 1.f), 0, 15) + ROUNDER) & 15;
        words[g / 8] |= (l & nonzero) << (4 * (g % 8));
    }
}

static void quantize_iq2_xs(const float *src, std::uint8_t *dst, std::int64_t rows, std::int64_t cols, const float *importance,
                            Changes arithmetic) {
    const Grid &grid = grid_iq2_xs();
    Left left = {!arithmetic.has(Change::cleared), false};
    for_batches<SUPER, SIZE_XS>(src, dst, rows, cols, importance, [&](const Batch &batch) {
        Found found;
        I words[18];
        const V max = search_blocks<true>(grid, batch, found, left);
        const I nonzero = max != 0.f;
        for (int g = 0; g < GROUPS; ++g) {
            const I low = found.codes[g][0] | found.signs[g][0] << 9, high = found.codes[g][1] | found.signs[g][1] << 9;
            words[g] = (low | high << 16) & nonzero;
        }
        const V d = max / 31.f;
        pack_scales(found.scales, d, nonzero, words + 16);
        store_half(batch, 0, to_half(d));
        store_words(batch, 2, words, 18);
    });
}

static void quantize_iq2_s(const float *src, std::uint8_t *dst, std::int64_t rows, std::int64_t cols, const float *importance,
                           Changes arithmetic) {
    const Grid &grid = grid_iq2_s();
    Left left = {!arithmetic.has(Change::cleared), true};
    for_batches<SUPER, SIZE_S>(src, dst, rows, cols, importance, [&](const Batch &batch) {
        Found found;
        I words[20] = {};
        const V max = search_blocks<false>(grid, batch, found, left);
        for (int g = 0; g < GROUPS; ++g) {
            const int shift = g % 2 * 16;
            words[g / 2] |= (found.codes[g][0] & 255) << shift | (found.codes[g][1] & 255) << (shift + 8);
            words[8 + g / 2] |= found.signs[g][0] << shift | found.signs[g][1] << (shift + 8);
            words[16 + g / 8] |= (found.codes[g][0] >> 8 | found.codes[g][1] >> 8 << 2) << (4 * (g % 8));
        }
        const V d = max / 31.f;
        pack_scales(found.scales, d, max != 0.f, words + 18);
        store_half(batch, 0, to_half(d * 0.9875f));
        store_words(batch, 2, words, 20);
    });
}

static void dequantize_iq2_xs(const std::uint8_t *src, float *dst, std::int64_t count) {
    const Grid &grid = grid_iq2_xs();
    for (; count > 0; count -= SUPER, src += SIZE_XS, dst += SUPER) {
        const float d = half_value(src);
        for (int k = 0; k < 32; ++k) {
            const int word = src[2 + 2 * k] | src[3 + 2 * k] << 8;
            const float step = d * (0.5f + float(src[66 + k / 4] >> (k / 2 % 2 * 4) & 15)) * 0.25f;
            expand_octet(grid, word & 511, even_signs(word >> 9), step, dst + 8 * k);
        }
    }
}

static void dequantize_iq2_s(const std::uint8_t *src, float *dst, std::int64_t count) {
    const Grid &grid = grid_iq2_s();
    for (; count > 0; count -= SUPER, src += SIZE_S, dst += SUPER) {
        const float d = half_value(src);
        for (int k = 0; k < 32; ++k) {
            const int index = src[2 + k] | (src[66 + k / 4] >> (2 * (k % 4)) & 3) << 8;
            const float step = d * (0.5f + float(src[74 + k / 4] >> (k / 2 % 2 * 4) & 15)) * 0.25f;
            expand_octet(grid, index, src[34 + k], step, dst + 8 * k);
        }
    }
}

QM_FAMILY(iq2_xs, {"IQ2_XS", SUPER, SIZE_XS, quantize_iq2_xs, dequantize_iq2_xs, true},
          {"IQ2_S", SUPER, SIZE_S, quantize_iq2_s, dequantize_iq2_s, false})

}  // namespace quantmill::QM_LEVEL
