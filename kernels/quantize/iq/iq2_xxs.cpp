// IQ2_XXS: eight groups of 32 weights with a scale of 4 bits each; every eight weights are one of 256 points and seven signs.
#include "quantize/iq/iq2_signs.h"
#include "quantize/iq/search_lattice.h"
#include "quantize/search_scales.h"

namespace quantmill::QM_LEVEL {

constexpr int GROUPS = 8, GROUP = 32, OCTETS = 4, SIZE = 66;

// A fit that is not positive, and no candidate better than nothing: not cleared, the levels of the fit stay, and ggml stops where
// they are on no point. Returns the lanes of `unfit` in which they are on points.
static I keep_fit(const Grid &grid, const I *quants, I unfit, Lattice<GROUP> &lattice) {
    for (int k = 0; k < OCTETS; ++k) {
        I code = {};
        for (int i = 0; i < 8; ++i) {
            unfit &= quants[8 * k + i] < 3;
            code |= quants[8 * k + i] << 2 * i;
        }
        for (int lane = 0; lane < W; ++lane) {
            if (unfit[lane] && grid.map[code[lane]] < 0) unfit[lane] = 0;
        }
        lattice.code[k] = select(unfit, code, lattice.code[k]);
    }
    return unfit;
}

// Finds one group in all lanes: returns its scale, 0 or more, and writes its points' indices and its signs.
static V search_group(const Grid &grid, const Batch &batch, int g, const V *x, V variance, I valid, Changes arithmetic, I *index,
                      I *signs) {
    Lattice<GROUP> lattice;
    weigh<GROUP>(batch, GROUP * g, variance, x, lattice.w);
    for (int i = 0; i < GROUP; ++i) lattice.root[i] = square_root(lattice.w[i]);
    for (int k = 0; k < OCTETS; ++k) signs[k] = split_even_signs(x + 8 * k, lattice.w + 8 * k, lattice.x + 8 * k);
    V max = lattice.x[0];
    for (int i = 1; i < GROUP; ++i) max = greater(max, lattice.x[i]);
    const I zero = max < 1e-15f;

    // Where the fit of plain quants is not positive, the group is cleared. Before that came, ggml goes on with a fit that is zero,
    // negative or zero divided by zero, and stops only if that is still its scale in the end.
    I quants[GROUP];
    const V start = search_scales<GROUP, 4>(lattice.x, lattice.w, quants, arithmetic), largest = start * 3.f;
    I active = ~zero & valid;
    if (arithmetic.has(Change::cleared)) active &= largest > 0.f;
    lattice.scale = start;
    search_lattice<GROUP, 6>(grid, lattice, largest, active);
    const I unfit = active & ~(lattice.won | (lattice.scale > 0.f));
    if (any(unfit)) active &= ~unfit | keep_fit(grid, quants, unfit & (lattice.scale == lattice.scale), lattice);
    I todo[OCTETS];
    for (int k = 0; k < OCTETS; ++k) todo[k] = active & (lattice.scale > 0.f);
    refine_lattice<GROUP>(grid, lattice, todo);
    const I negative = lattice.scale < 0.f;
    for (int k = 0; k < OCTETS; ++k) {
        signs[k] = active & (signs[k] ^ (negative & 127));
        index[k] = active & lattice.code[k];
        for (int lane = 0; lane < W; ++lane) index[k][lane] = grid.map[index[k][lane]];
    }
    return select(active, absolute(lattice.scale), V{});
}

static void quantize_iq2_xxs(const float *src, std::uint8_t *dst, std::int64_t rows, std::int64_t cols, const float *importance,
                             Changes arithmetic) {
    const Grid &grid = grid_iq2_xxs();
    for_batches<SUPER, SIZE>(src, dst, rows, cols, importance, [&](const Batch &batch) {
        V x[SUPER], scales[GROUPS], max = {};
        I words[2 * GROUPS], index[OCTETS] = {}, signs[OCTETS] = {}, valid = {};
        for (int lane = 0; lane < batch.valid; ++lane) valid[lane] = -1;
        load_lanes(batch.src, 0, SUPER, x);
        const V variance = sum_of_squares<SUPER>(x) / 256.f;
        for (int g = 0; g < GROUPS; ++g) {
            scales[g] = search_group(grid, batch, g, x + GROUP * g, variance, valid, arithmetic, index, signs);
            max = greater(max, scales[g]);
            words[2 * g] = index[0] | index[1] << 8 | index[2] << 16 | index[3] << 24;
            words[2 * g + 1] = signs[0] | signs[1] << 7 | signs[2] << 14 | signs[3] << 21;
        }
        const I nonzero = max != 0.f;
        const V d = max / 31.f, inverse = 1.f / d;
        for (int g = 0; g < GROUPS; ++g) {
            const I l = bits(nearest_clamped(0.5f * (inverse * scales[g] - 1.f), 0, 15) + ROUNDER) & 15;
            words[2 * g] &= nonzero;
            words[2 * g + 1] = (words[2 * g + 1] | l << 28) & nonzero;
        }
        store_half(batch, 0, to_half(d));
        store_words(batch, 2, words, 2 * GROUPS);
    });
}

static void dequantize_iq2_xxs(const std::uint8_t *src, float *dst, std::int64_t count) {
    const Grid &grid = grid_iq2_xxs();
    for (; count > 0; count -= SUPER, src += SIZE, dst += SUPER) {
        const float d = half_value(src);
        for (int g = 0; g < GROUPS; ++g) {
            std::uint32_t word;
            std::memcpy(&word, src + 6 + 8 * g, 4);
            const float step = d * (0.5f + float(word >> 28)) * 0.25f;
            for (int k = 0; k < OCTETS; ++k) {
                expand_octet(grid, src[2 + 8 * g + k], even_signs(int(word >> 7 * k & 127)), step, dst + GROUP * g + 8 * k);
            }
        }
    }
}

QM_FAMILY(iq2_xxs, {"IQ2_XXS", SUPER, SIZE, quantize_iq2_xxs, dequantize_iq2_xxs, true})

}  // namespace quantmill::QM_LEVEL
