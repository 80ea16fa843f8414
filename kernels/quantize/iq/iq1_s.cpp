// IQ1_S: eight groups of 32 weights with a scale of 3 bits and one shift each; every eight weights are one of 2048 points.
#include "quantize/iq/iq1.h"

namespace quantmill::QM_LEVEL {

constexpr int GROUPS = 8, GROUP = 32, OCTETS = 4, SIZE = 50;

// All cuts of a group, by sums over its sorted weights. A shift is 0 (up) or 1 (down).
QM_OUTLINE void search_cuts(const V *sumx, const V *sumw, Cut &found) {
    Cut cut = found;
    // The parts of a candidate's sums that depend on one of its two positions only.
    V low[2][GROUP + 1], high[2][GROUP + 1], low2[2][GROUP + 1], high2[2][GROUP + 1];
    for (int i = 0; i <= GROUP; ++i) {
        for (int shift = 0; shift < 2; ++shift) {
            const float bottom = shift ? LOW_DOWN : LOW_UP, top = bottom + 2.f;
            low[shift][i] = sumx[i] * bottom;
            low2[shift][i] = sumw[i] * bottom * bottom;
            high[shift][i] = (sumx[GROUP] - sumx[i]) * top;
            high2[shift][i] = (sumw[GROUP] - sumw[i]) * top * top;
        }
    }
    for (int first = 0; first <= GROUP; ++first) {
        for (int second = first; second <= GROUP; ++second) {
            // Down, the middle level is -1/8: the same numbers, subtracted.
            const V middle = (sumx[second] - sumx[first]) * 0.125f;
            const V middle2 = (sumw[second] - sumw[first]) * 0.125f * 0.125f;
            const V sumqx[2] = {low[0][first] + middle + high[0][second], low[1][first] - middle + high[1][second]};
            const V sumq2[2] = {low2[0][first] + middle2 + high2[0][second], low2[1][first] + middle2 + high2[1][second]};
            for (int shift = 0; shift < 2; ++shift) consider<1>(cut, sumqx + shift, sumq2 + shift, first, second, shift);
        }
    }
    found = cut;
}

struct Group {
    V scale;
    I shift, zero;
    I index[OCTETS];
};

static Group search_group(const Grid &grid, const Batch &batch, int g, const V *x, V variance, I valid, Changes arithmetic) {
    Sorted<GROUP> sorted;
    V w[GROUP], sumx[GROUP + 1], sumw[GROUP + 1];
    weigh<GROUP>(batch, GROUP * g, variance, x, w);
    const V max = largest_magnitude<GROUP>(x);
    const I zero = max < 1e-12f;
    I active = ~zero & valid;
    for (int i = 0; i < GROUP; ++i) {
        sorted.x[i] = x[i];
        sorted.w[i] = w[i];
        sorted.place[i] = splat_int(i);
    }
    sort_lanes<GROUP>(sorted);
    sumx[0] = sumw[0] = V{};
    for (int i = 0; i < GROUP; ++i) {
        sumx[i + 1] = sumx[i] + sorted.w[i] * sorted.x[i];
        sumw[i + 1] = sumw[i] + sorted.w[i];
    }
    const Cut cut = find_cut(max, active, arithmetic, [&](Cut &c) { search_cuts(sumx, sumw, c); });
    active &= cut.found;

    Points<GROUP> points;
    cut_codes<GROUP>(sorted, cut, points.codes);
    const I negative = cut.scale < 0.f;
    const I shift = cut.shift ^ (negative & 1);
    for (int k = 0; k < OCTETS; ++k) {
        points.codes[k] = select(negative, 0xaaaa - points.codes[k], points.codes[k]);
        points.low[k] = select(shift == 1, splat(LOW_DOWN), splat(LOW_UP));
    }
    const V scale = place_on_grid<GROUP>(grid, x, w, absolute(cut.scale), active, points);
    Group found = {select(active, scale, V{}), shift & active, zero, {}};
    for (int k = 0; k < OCTETS; ++k) found.index[k] = map_codes(grid, points.codes[k] & active);
    return found;
}

static void quantize_iq1_s(const float *src, std::uint8_t *dst, std::int64_t rows, std::int64_t cols, const float *importance,
                           Changes arithmetic) {
    const Grid &grid = grid_iq1();
    LeftShifts<GROUPS> left = {!arithmetic.has(Change::cleared)};
    for_batches<SUPER, SIZE>(src, dst, rows, cols, importance, [&](const Batch &batch) {
        V x[SUPER], scales[GROUPS], max = {};
        I words[12], high[GROUPS], shifts[GROUPS], zero[GROUPS], valid = {};
        for (int lane = 0; lane < batch.valid; ++lane) valid[lane] = -1;
        load_lanes(batch.src, 0, SUPER, x);
        const V variance = 2.f * sum_of_squares<SUPER>(x) / 256.f;
        for (int g = 0; g < GROUPS; ++g) {
            const Group group = search_group(grid, batch, g, x + GROUP * g, variance, valid, arithmetic);
            scales[g] = group.scale;
            shifts[g] = group.shift;
            zero[g] = group.zero;
            max = greater(max, group.scale);
            words[g] = high[g] = I{};
            for (int k = 0; k < OCTETS; ++k) {
                words[g] |= (group.index[k] & 255) << 8 * k;
                high[g] |= group.index[k] >> 8 << 3 * k;
            }
        }
        left.apply(batch, max, zero, shifts);
        const I nonzero = max != 0.f;
        const V d = max / 15.f, inverse = 1.f / d;
        for (int g = 0; g < GROUPS; ++g) {
            const I l = bits(nearest_clamped(0.5f * (inverse * scales[g] - 1.f), 0, 7) + ROUNDER) & 7;
            high[g] |= (l | shifts[g] << 3) << 12 & nonzero;
        }
        for (int g = 0; g < GROUPS; g += 2) words[8 + g / 2] = high[g] | high[g + 1] << 16;
        store_half(batch, 0, to_half(d * 1.125f));
        store_words(batch, 2, words, 12);
    });
}

static void dequantize_iq1_s(const std::uint8_t *src, float *dst, std::int64_t count) {
    const Grid &grid = grid_iq1();
    for (; count > 0; count -= SUPER, src += SIZE, dst += SUPER) {
        const float d = half_value(src);
        for (int g = 0; g < GROUPS; ++g) {
            const int high = src[34 + 2 * g] | src[35 + 2 * g] << 8;
            const float step = d * float(2 * (high >> 12 & 7) + 1), shift = high & 0x8000 ? -0.125f : 0.125f;
            for (int k = 0; k < OCTETS; ++k) {
                const std::int8_t *point = grid.points + 8 * (src[2 + OCTETS * g + k] | (high >> 3 * k & 7) << 8);
                for (int i = 0; i < 8; ++i) dst[GROUP * g + 8 * k + i] = step * (float(point[i]) + shift);
            }
        }
    }
}

QM_FAMILY(iq1_s, {"IQ1_S", SUPER, SIZE, quantize_iq1_s, dequantize_iq1_s, true})

}  // namespace quantmill::QM_LEVEL
