// IQ1_M: sixteen groups of 16 weights with a scale of 3 bits each; every eight weights are one of 2048 points and have a shift
// of their own. The block's own scale has no field: its four nibbles top the four words of scales.
#include "quantize/iq/iq1.h"

namespace quantmill::QM_LEVEL {

constexpr int GROUPS = 16, GROUP = 16, OCTETS = 2, SIZE = 56;

// The four shifts of a group's two octets: bit 1 says that the first goes down, bit 0 the second.
constexpr int SHIFTS = 4;

// Terms of the two sums at a sorted position, for all shifts at each level: sums run over them in the order of positions.
struct Terms {
    V qx[SHIFTS], q2[SHIFTS];
};

QM_INLINE void add(Terms &sum, const Terms &terms) {
    QM_UNROLL
    for (int k = 0; k < SHIFTS; ++k) {
        sum.qx[k] += terms.qx[k];
        sum.q2[k] += terms.q2[k];
    }
}

// All cuts of a group, each by a sum over its sorted weights.
QM_OUTLINE void search_cuts(const Sorted<GROUP> &s, Cut &found) {
    Cut cut = found;
    Terms terms[3][GROUP];
    for (int j = 0; j < GROUP; ++j) {
        const I in_first = s.place[j] < 8;
        for (int level = 0; level < 3; ++level) {
            const float up = LOW_UP + float(level), down = LOW_DOWN + float(level);
            const V up_x = s.w[j] * up * s.x[j], down_x = s.w[j] * down * s.x[j];
            const V up_2 = s.w[j] * up * up, down_2 = s.w[j] * down * down;
            terms[level][j] = {{up_x, select(in_first, up_x, down_x), select(in_first, down_x, up_x), down_x},
                               {up_2, select(in_first, up_2, down_2), select(in_first, down_2, up_2), down_2}};
        }
    }
    Terms low = {};
    for (int first = 0; first <= GROUP; ++first) {
        Terms middle = low;
        for (int second = first; second <= GROUP; ++second) {
            Terms sum = middle;
            for (int j = second; j < GROUP; ++j) add(sum, terms[2][j]);
            consider<SHIFTS>(cut, sum.qx, sum.q2, first, second, 0);
            if (second < GROUP) add(middle, terms[1][second]);
        }
        if (first < GROUP) add(low, terms[0][first]);
    }
    found = cut;
}

// The same from running sums, one for each octet. Neighbouring levels are one apart, whatever the shift, so that a sum over an octet
// is that of all its weights at the highest level less those below each of the two positions.
QM_OUTLINE void search_running_sums(const Sorted<GROUP> &s, Cut &found) {
    static constexpr float HIGH[2] = {LOW_UP + 2.f, LOW_DOWN + 2.f};
    // The squares of level 0 less those of level 1, and of level 1 less those of level 2.
    static constexpr float FIRST[2] = {0.75f, 1.25f}, SECOND[2] = {-1.25f, -0.75f};
    Cut cut = found;
    V sumx[OCTETS][GROUP + 1], sumw[OCTETS][GROUP + 1], all[OCTETS][2], all2[OCTETS][2];
    for (int k = 0; k < OCTETS; ++k) {
        sumx[k][0] = sumw[k][0] = V{};
        for (int j = 0; j < GROUP; ++j) {
            const I here = (s.place[j] >> 3) == k;
            sumx[k][j + 1] = select(here, sumx[k][j] + s.w[j] * s.x[j], sumx[k][j]);
            sumw[k][j + 1] = select(here, sumw[k][j] + s.w[j], sumw[k][j]);
        }
        for (int shift = 0; shift < 2; ++shift) {
            all[k][shift] = sumx[k][GROUP] * HIGH[shift];
            all2[k][shift] = sumw[k][GROUP] * HIGH[shift] * HIGH[shift];
        }
    }
    for (int first = 0; first <= GROUP; ++first) {
        V below[OCTETS][2];
        for (int k = 0; k < OCTETS; ++k) {
            for (int shift = 0; shift < 2; ++shift) below[k][shift] = all2[k][shift] + sumw[k][first] * FIRST[shift];
        }
        for (int second = first; second <= GROUP; ++second) {
            V qx[OCTETS][2], q2[OCTETS][2];
            QM_UNROLL
            for (int k = 0; k < OCTETS; ++k) {
                const V sum = sumx[k][first] + sumx[k][second];
                QM_UNROLL
                for (int shift = 0; shift < 2; ++shift) {
                    qx[k][shift] = all[k][shift] - sum;
                    q2[k][shift] = below[k][shift] + sumw[k][second] * SECOND[shift];
                }
            }
            const V sumqx[SHIFTS] = {qx[0][0] + qx[1][0], qx[0][0] + qx[1][1], qx[0][1] + qx[1][0], qx[0][1] + qx[1][1]};
            const V sumq2[SHIFTS] = {q2[0][0] + q2[1][0], q2[0][0] + q2[1][1], q2[0][1] + q2[1][0], q2[0][1] + q2[1][1]};
            consider<SHIFTS>(cut, sumqx, sumq2, first, second, 0);
        }
    }
    found = cut;
}

// A super-block before it is packed. Groups without a cut have scale 0, point 0.
struct Found {
    V x[SUPER], w[SUPER], scales[GROUPS];
    I codes[GROUPS][OCTETS], shifts[GROUPS], zero[GROUPS];
};

QM_INLINE V low_of(I shifts, int octet) {
    return select((shifts & (octet == 0 ? 2 : 1)) != 0, splat(LOW_DOWN), splat(LOW_UP));
}

static void search_group(const Grid &grid, int g, I valid, Changes arithmetic, Found &found) {
    const V *x = found.x + GROUP * g, *w = found.w + GROUP * g;
    const V max = largest_magnitude<GROUP>(x);
    found.zero[g] = max < 1e-7f;
    I active = ~found.zero[g] & valid;
    Sorted<GROUP> sorted;
    for (int i = 0; i < GROUP; ++i) {
        sorted.x[i] = x[i];
        sorted.w[i] = w[i];
        sorted.place[i] = splat_int(i);
    }
    sort_lanes<GROUP>(sorted);
    const Cut cut = find_cut(max, active, arithmetic, [&](Cut &c) {
        if (arithmetic.has(Change::running_sums)) search_running_sums(sorted, c);
        else search_cuts(sorted, c);
    });
    active &= cut.found;

    Points<GROUP> points;
    cut_codes<GROUP>(sorted, cut, points.codes);
    const I negative = cut.scale < 0.f;
    const I shift = cut.shift ^ (negative & 3);
    for (int k = 0; k < OCTETS; ++k) {
        points.codes[k] = select(negative, 0xaaaa - points.codes[k], points.codes[k]);
        points.low[k] = low_of(shift, k);
    }
    const V scale = place_on_grid<GROUP>(grid, x, w, absolute(cut.scale), active, points);
    found.scales[g] = select(active, scale, V{});
    found.shifts[g] = shift & active;
    for (int k = 0; k < OCTETS; ++k) found.codes[g][k] = points.codes[k] & active;
}

// Rounds the groups' scales to odd multiples and fits the block's scale to the result, in order over all weights.
static V fit_scale(const Found &found, V d, I *rounded) {
    const V inverse = 1.f / d;
    V sumqx = {}, sumq2 = {};
    for (int g = 0; g < GROUPS; ++g) {
        rounded[g] = bits(nearest_clamped(0.5f * (inverse * found.scales[g] - 1.f), 0, 7) + ROUNDER) & 7;
        const V multiple = to_float(2 * rounded[g] + 1);
        for (int i = 0; i < GROUP; ++i) {
            const V level = to_float((found.codes[g][i / 8] >> (2 * (i % 8))) & 3);
            const V q = (level + low_of(found.shifts[g], i / 8)) * multiple;
            const V wq = found.w[GROUP * g + i] * q;
            sumqx += wq * found.x[GROUP * g + i];
            sumq2 += wq * q;
        }
    }
    return select(sumq2 > 0.f, sumqx / sumq2, d);
}

static void quantize_iq1_m(const float *src, std::uint8_t *dst, std::int64_t rows, std::int64_t cols, const float *importance,
                           Changes arithmetic) {
    const Grid &grid = grid_iq1();
    LeftShifts<GROUPS> left = {!arithmetic.has(Change::cleared)};
    for_batches<SUPER, SIZE>(src, dst, rows, cols, importance, [&](const Batch &batch) {
        Found found;
        I words[14] = {}, rounded[GROUPS], valid = {};
        V max = {};
        for (int lane = 0; lane < batch.valid; ++lane) valid[lane] = -1;
        load_lanes(batch.src, 0, SUPER, found.x);
        const V variance = 2.f * sum_of_squares<SUPER>(found.x) / 256.f;
        if (importance) weigh<SUPER>(batch, 0, variance, found.x, found.w);
        else for (int i = 0; i < SUPER; ++i) found.w[i] = found.x[i] * found.x[i];
        for (int g = 0; g < GROUPS; ++g) {
            search_group(grid, g, valid, arithmetic, found);
            max = greater(max, found.scales[g]);
        }
        left.apply(batch, max, found.zero, found.shifts);
        const I nonzero = max != 0.f;
        const I d = to_half(fit_scale(found, max / 15.f, rounded) * 1.1125f) & nonzero;
        for (int g = 0; g < GROUPS; ++g) {
            const I first = map_codes(grid, found.codes[g][0]), second = map_codes(grid, found.codes[g][1]);
            const I down = ((found.shifts[g] & 2) << 2 | (found.shifts[g] & 1) << 7) & nonzero;
            words[g / 2] |= ((first & 255) | (second & 255) << 8) << (16 * (g % 2));
            words[8 + g / 4] |= (first >> 8 | second >> 8 << 4 | down) << (8 * (g % 4));
            words[12 + g / 8] |= (rounded[g] & nonzero) << (g / 4 % 2 * 16 + 3 * (g % 4));
        }
        for (int n = 0; n < 4; ++n) words[12 + n / 2] |= (d >> 4 * n & 15) << (n % 2 * 16 + 12);
        store_words(batch, 0, words, 14);
    });
}

static void dequantize_iq1_m(const std::uint8_t *src, float *dst, std::int64_t count) {
    const Grid &grid = grid_iq1();
    for (; count > 0; count -= SUPER, src += SIZE, dst += SUPER) {
        const std::uint8_t *scales = src + 48;
        const std::uint8_t half[2] = {std::uint8_t(scales[1] >> 4 | (scales[3] & 0xf0)),
                                      std::uint8_t(scales[5] >> 4 | (scales[7] & 0xf0))};
        const float d = half_value(half);
        for (int k = 0; k < 32; ++k) {
            const int g = k / 2, high = src[32 + g] >> (4 * (k % 2));
            const int word = scales[g / 4 * 2] | scales[g / 4 * 2 + 1] << 8;
            const float step = d * float(2 * (word >> 3 * (g % 4) & 7) + 1), shift = high & 8 ? -0.125f : 0.125f;
            const std::int8_t *point = grid.points + 8 * (src[k] | (high & 7) << 8);
            for (int i = 0; i < 8; ++i) dst[8 * k + i] = step * (float(point[i]) + shift);
        }
    }
}

QM_FAMILY(iq1_m, {"IQ1_M", SUPER, SIZE, quantize_iq1_m, dequantize_iq1_m, false})

}  // namespace quantmill::QM_LEVEL
