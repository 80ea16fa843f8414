// What IQ1_S and IQ1_M share: weights become -1, 0 or 1, all of a group (or of eight weights) shifted up or down by an eighth.
//
// Both sort a group's weights and try every way to cut the sorted row into three levels. Then each eight weights take the
// point of a grid that is nearest.
#pragma once

#include "quantize/iq/nearest.h"
#include "quantize/super.h"

namespace quantmill::QM_LEVEL {

// The value of level 0 with the shift up and down; levels 1 and 2 are one and two more.
constexpr float LOW_UP = -0.875f, LOW_DOWN = -1.125f;

// A group's weights in ascending order, equal ones by their place, as a stable sort leaves them.
template <int N>
struct Sorted {
    V x[N], w[N];
    I place[N];
};

// Batcher's odd-even merging network: the same exchanges in every lane.
template <int N>
QM_OUTLINE void sort_lanes(Sorted<N> &s) {
    for (int p = 1; p < N; p *= 2) {
        for (int k = p; k >= 1; k /= 2) {
            for (int j = k % p; j + k < N; j += 2 * k) {
                for (int a = j; a < j + k && a + k < N; ++a) {
                    const int b = a + k;
                    if (a / (2 * p) != b / (2 * p)) continue;
                    const V xa = s.x[a], xb = s.x[b], wa = s.w[a], wb = s.w[b];
                    const I pa = s.place[a], pb = s.place[b];
                    const I swap = (xa > xb) | ((xa == xb) & (pa > pb));
                    s.x[a] = select(swap, xb, xa);
                    s.x[b] = select(swap, xa, xb);
                    s.w[a] = select(swap, wb, wa);
                    s.w[b] = select(swap, wa, wb);
                    s.place[a] = select(swap, pb, pa);
                    s.place[b] = select(swap, pa, pb);
                }
            }
        }
    }
}

// The best cut so far: positions below `first` get level 0, those from `second` level 2.
struct Cut {
    V best, scale;
    I first, second, shift;
    I found;  // mask
};

QM_INLINE I passes(const Cut &cut, V sumqx, V sumq2) { return (sumq2 > 0.f) & (sumqx * sumqx > cut.best * sumq2); }

QM_INLINE void take(Cut &cut, I better, V sumqx, V sumq2, int first, int second, int shift) {
    cut.scale = select(better, sumqx / sumq2, cut.scale);
    cut.best = select(better, cut.scale * sumqx, cut.best);
    cut.first = select(better, splat_int(first), cut.first);
    cut.second = select(better, splat_int(second), cut.second);
    cut.shift = select(better, splat_int(shift), cut.shift);
    cut.found |= better;
}

// One cut with SHIFTS of its shifts from `shift` on, in the reference's order of candidates.
template <int SHIFTS>
QM_INLINE void consider(Cut &cut, const V *sumqx, const V *sumq2, int first, int second, int shift) {
    I any_passes = {};
    QM_UNROLL
    for (int n = 0; n < SHIFTS; ++n) any_passes |= passes(cut, sumqx[n], sumq2[n]);
    if (!any(any_passes)) return;
    QM_UNROLL
    for (int n = 0; n < SHIFTS; ++n) take(cut, passes(cut, sumqx[n], sumq2[n]), sumqx[n], sumq2[n], first, second, shift + n);
}

// The score that the first candidate must pass. Before the guards it had to be more than nothing, and ggml stopped where no cut has
// that; such groups are searched again as with the guards.
constexpr float BEST_ONCE = -1.175494351e-38f, BEST = -LARGEST_FLOAT;

// Runs `search(cut)` in the manner of the arithmetic.
template <class Search>
QM_INLINE Cut find_cut(V max, I active, Changes arithmetic, Search search) {
    const bool guarded = arithmetic.has(Change::guards);
    Cut cut = {splat(guarded ? BEST : BEST_ONCE), max, I{}, I{}, I{}, I{}};
    search(cut);
    if (!guarded && any(active & ~cut.found)) {
        Cut again = {splat(BEST), max, I{}, I{}, I{}, I{}};
        search(again);
        cut.scale = select(cut.found, cut.scale, again.scale);
        cut.first = select(cut.found, cut.first, again.first);
        cut.second = select(cut.found, cut.second, again.second);
        cut.shift = select(cut.found, cut.shift, again.shift);
        cut.found |= again.found;
    }
    return cut;
}

// The levels of each eight weights as codes.
template <int N>
QM_INLINE void cut_codes(const Sorted<N> &s, const Cut &cut, I *codes) {
    I words[(N + 15) / 16] = {};
    for (int j = 0; j < N; ++j) {
        const I level = 2 + (cut.first > j) + (cut.second > j);
        const I bits = level << (2 * (s.place[j] & 15));
        for (int half = 0; half < N / 16; ++half) words[half] |= bits & ((s.place[j] >> 4) == half);
    }
    for (int k = 0; k < N / 8; ++k) codes[k] = (words[k / 2] >> (16 * (k % 2))) & 0xffff;
}

// A group with the lowest value of each octet's levels.
template <int N>
struct Points {
    V low[N / 8];
    I codes[N / 8];
};

// Moves codes that are on no point to the nearest neighbour, and fits the scale again where that happened.
template <int N>
QM_OUTLINE V place_on_grid(const Grid &grid, const V *x, const V *w, V scale, I active, Points<N> &points) {
    constexpr int OCTETS = N / 8;
    std::uint16_t asked[OCTETS * W + 1];
    int questions = 0;
    for (int k = 0; k < OCTETS; ++k) {
        for (int lane = 0; lane < W; ++lane) {
            asked[questions] = std::uint16_t(k * W + lane);
            questions += active[lane] & (grid.chunks[points.codes[k][lane]] != 0);
        }
    }
    I moved = {};
    nearest_of<OCTETS * W>(
        grid, asked, questions,
        [&](int place) -> Octet {
            const int lane = place % W, k = place / W;
            const float low = ((const float *)points.low)[place];
            return {((const std::int32_t *)points.codes)[place],
                    (const float *)(x + 8 * k) + lane,
                    (const float *)(w + 8 * k) + lane,
                    ((const float *)&scale)[lane],
                    0.f,
                    {{low, low + 1.f, low + 2.f, __builtin_inff()}}};
        },
        [&](int place, Nearest found) {
            ((std::int32_t *)points.codes)[place] = found.code;
            ((std::int32_t *)&moved)[place % W] = -1;
        });
    V sumqx = {}, sumq2 = {};
    for (int i = 0; i < N; ++i) {
        const V q = to_float((points.codes[i / 8] >> (2 * (i % 8))) & 3) + points.low[i / 8];
        sumqx += w[i] * q * x[i];
        sumq2 += w[i] * q * q;
    }
    return select(moved & (sumqx > 0.f) & (sumq2 > 0.f), sumqx / sumq2, scale);
}

template <int N>
QM_INLINE V largest_magnitude(const V *x) {
    V max = absolute(x[0]);
    for (int i = 1; i < N; ++i) max = greater(max, absolute(x[i]));
    return max;
}

QM_INLINE I map_codes(const Grid &grid, I codes) {
    for (int lane = 0; lane < W; ++lane) codes[lane] = grid.map[codes[lane]];
    return codes;
}

// Not cleared, a group of zeros keeps the shift of the last one at the same place of a block, in the order of memory across
// the blocks and rows of one call; a block whose scale is zero stores no shifts. Where it would be the first of its place, ggml reads
// memory that nobody wrote, so its bytes differ from run to run: such a call goes on as if cleared, where it is up.
template <int GROUPS>
struct LeftShifts {
    bool keep;  // nothing is cleared
    bool defined[GROUPS] = {};
    std::int32_t shifts[GROUPS] = {};

    void apply(const Batch &batch, V max, const I *zero, I *found) {
        for (int lane = 0; keep && lane < batch.valid; ++lane) {
            if (max[lane] != 0.f) {
                for (int g = 0; g < GROUPS; ++g) keep &= defined[g] || !zero[g][lane];
            }
            for (int g = 0; keep && g < GROUPS; ++g) {
                if (zero[g][lane]) {
                    found[g][lane] = shifts[g];
                } else {
                    shifts[g] = found[g][lane];
                    defined[g] = true;
                }
            }
        }
    }
};

}  // namespace quantmill::QM_LEVEL
