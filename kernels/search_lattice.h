// The search of the IQ2 formats: a scale, and for every eight weights the point of a grid, that together fit N weights best.
//
// The reference rounds the weights at each candidate scale and, where that gives no point of the grid, tries the neighbours
// of what it got. Here the rounding and the scores are computed with blocks in lanes, the neighbours (nearest.h) for one lane
// after another. Between one candidate and the next few roundings change, so the same neighbours are asked again and again,
// at another scale. The difference between two neighbours' errors is scale * (a * scale - b), so a neighbour that wins at two
// scales wins at all between: only the ends of such a run are evaluated, and the rest only where rounding errors could
// decide (`margin`).
#pragma once

#include "nearest.h"
#include "super.h"

namespace quantmill::QM_LEVEL {

constexpr Levels ODD = {{1.f, 3.f, 5.f, __builtin_inff()}};

// N weights of each lane, their signs taken off, and how their errors count.
template <int N>
struct Lattice {
    static constexpr int OCTETS = N / 8;
    V x[N], w[N], root[N];
    V scale;
    I code[OCTETS];    // points of the grid
    I on_grid[OCTETS];  // mask: plain rounding gave `code`, no neighbour was needed
    I won;             // mask: a candidate was better than none (else `scale` is still the start and `code` means nothing)
};

// Levels 0 to 2 of eight weights, nearest to x / scale as odd numbers. Adding 1.5 * 2^24 to a value rounds it to twice an
// integer: the reference's rounding of half the value, with the same low bits, even for what is too large for it.
QM_INLINE I round_octet(const V *x, V inverse) {
    I code = {};
    QM_UNROLL
    for (int i = 0; i < 8; ++i) {
        I n = (bits(inverse * x[i] - 1.f + 2.f * ROUNDER) & 0x007fffff) | 0x4b800000;
        n = lesser(greater(n, splat_int(0x4bc00000)), splat_int(0x4bc00002)) - 0x4bc00000;
        code |= n << 2 * i;
    }
    return code;
}

// The levels of a code as odd numbers.
QM_INLINE V odd_level(I code, int i) {
#if defined(__AVX512F__)
    // Only four bits choose, and the upper two make no difference.
    const __m512 table = _mm512_broadcast_f32x4(_mm_setr_ps(1.f, 3.f, 5.f, 7.f));
    return (V)_mm512_permutexvar_ps((__m512i)(code >> 2 * i), table);
#elif defined(__AVX2__)
    const __m256 table = _mm256_setr_ps(1.f, 3.f, 5.f, 7.f, 1.f, 3.f, 5.f, 7.f);
    return (V)_mm256_permutevar_ps(table, (__m256i)(code >> 2 * i));
#else
    return to_float(((code >> 2 * i) & 3) * 2 + 1);
#endif
}

template <int N>
QM_INLINE void score(const V *wx, const V *w, const I *code, V &sumqx, V &sumq2) {
    sumqx = V{};
    sumq2 = V{};
    QM_UNROLL
    for (int i = 0; i < N; ++i) {
        const V q = odd_level(code[i / 8], i % 8);
        sumqx += wx[i] * q;
        sumq2 += w[i] * q * q;
    }
}

// A run of candidates, in which one octet of one lane rounds to the same code.
struct Run {
    const Grid &grid;
    const Octet octet;
    const V *scales;  // of the candidates
    int lane;
    float margin;
    I *codes;  // of the candidates, `stride` apart: the rounded ones, replaced by neighbours
    int stride;

    Nearest at(int step) const { return nearest(grid, codes_at(step), octet, scales[step][lane], margin); }
    int codes_at(int step) const { return codes[stride * step][lane]; }
};

// The codes strictly between two evaluated ends.
QM_OUTLINE void settle_between(const Run &run, int code, int first, Nearest at_first, int last, Nearest at_last) {
    if (last - first < 2) return;
    if (at_first.clear && at_last.clear && at_first.code == at_last.code) {
        for (int step = first + 1; step < last; ++step) run.codes[run.stride * step][run.lane] = at_first.code;
        return;
    }
    const int middle = (first + last) / 2;
    const Nearest at_middle = nearest(run.grid, code, run.octet, run.scales[middle][run.lane], run.margin);
    run.codes[run.stride * middle][run.lane] = at_middle.code;
    settle_between(run, code, first, at_first, middle, at_middle);
    settle_between(run, code, middle, at_middle, last, at_last);
}

QM_INLINE void settle_run(const Run &run, int first, int last) {
    const int code = run.codes_at(first);
    if (run.grid.map[code] >= 0) return;
    const Nearest at_first = nearest(run.grid, code, run.octet, run.scales[first][run.lane], run.margin);
    run.codes[run.stride * first][run.lane] = at_first.code;
    if (last == first) return;
    const Nearest at_last = nearest(run.grid, code, run.octet, run.scales[last][run.lane], run.margin);
    run.codes[run.stride * last][run.lane] = at_last.code;
    settle_between(run, code, first, at_first, last, at_last);
}

// By how much an error must be larger to be larger whatever the rounding, at any candidate scale.
//
// With |scale * value - x| <= bound and eps = 2^-24, the float sum of eight terms is off by less than 15 eps * sum(w) *
// bound^2. A margin of sixteen times that at both ends of a run leaves nine times that between them (the ends' scales differ
// by less than a third), and comparing two floats there can lose two. Outside the range where underflow adds less than that,
// the margin is infinite: no end is ever clear, and everything is evaluated.
QM_INLINE V safe_margin(const V *x, const V *root, V largest_scale) {
    V sum = {}, bound = {};
    for (int i = 0; i < 8; ++i) {
        sum += root[i];
        bound = greater(bound, absolute(x[i]));
    }
    bound = bound + largest_scale * 5.f;
    const V margin = sum * bound * bound * 0x1p-16f;
    const I fits = (largest_scale > 0.f) & (bound < 0x1p20f) & (sum < 0x1p20f) & (margin > 0x1p-76f);
    return select(fits, margin, splat(__builtin_inff()));
}

// Candidates (5 + tenths / 10) / largest for tenths = -STEPS .. STEPS, in lanes of `active`. Sets g.scale where one is better
// than nothing, g.code, g.on_grid and g.won.
template <int N, int STEPS>
QM_OUTLINE void search_lattice(const Grid &grid, Lattice<N> &g, V largest, I active) {
    constexpr int OCTETS = N / 8, COUNT = 2 * STEPS + 1;
    V scales[COUNT];
    I rounded[COUNT][OCTETS], codes[COUNT][OCTETS], changes[OCTETS];
    for (int k = 0; k < OCTETS; ++k) changes[k] = splat_int(1 << COUNT);
    for (int step = 0; step < COUNT; ++step) {
        const V inverse = (5.f + float(step - STEPS) * 0.1f) / largest;
        scales[step] = 1.f / inverse;
        for (int k = 0; k < OCTETS; ++k) {
            codes[step][k] = rounded[step][k] = round_octet(g.x + 8 * k, inverse);
            if (step > 0) changes[k] |= (rounded[step][k] != rounded[step - 1][k]) & (1 << step);
        }
    }
    for (int k = 0; k < OCTETS; ++k) {
        const V margin = safe_margin(g.x + 8 * k, g.root + 8 * k, scales[0]);
        for (int lane = 0; lane < W; ++lane) {
            if (!active[lane]) continue;
            const Run run = {grid,
                             {(const float *)(g.x + 8 * k) + lane, (const float *)(g.root + 8 * k) + lane, ODD},
                             scales,
                             lane,
                             margin[lane],
                             &codes[0][k],
                             OCTETS};
            unsigned starts = unsigned(changes[k][lane]);
            for (int first = 0; first < COUNT;) {
                const int next = __builtin_ctz(starts);
                starts &= starts - 1;
                settle_run(run, first, next - 1);
                first = next;
            }
        }
    }
    V wx[N], best = {};
    for (int i = 0; i < N; ++i) wx[i] = g.w[i] * g.x[i];
    g.won = I{};
    for (int k = 0; k < OCTETS; ++k) g.code[k] = I{}, g.on_grid[k] = splat_int(-1);
    for (int step = 0; step < COUNT; ++step) {
        V sumqx, sumq2;
        score<N>(wx, g.w, codes[step], sumqx, sumq2);
        const I better = active & (sumq2 > 0.f) & (sumqx * sumqx > best * sumq2);
        g.scale = select(better, sumqx / sumq2, g.scale);
        best = select(better, g.scale * sumqx, best);
        g.won |= better;
        for (int k = 0; k < OCTETS; ++k) {
            g.code[k] = select(better, codes[step][k], g.code[k]);
            g.on_grid[k] = select(better, codes[step][k] == rounded[step][k], g.on_grid[k]);
        }
    }
}

// Rounds the octets of the lanes in `todo` again, at the scale found, and fits the scale to that; returns the lanes in which
// no neighbour could be chosen (their errors are all infinite or not numbers).
template <int N>
QM_OUTLINE void refine_lattice(const Grid &grid, Lattice<N> &g, const I *todo) {
    constexpr int OCTETS = N / 8;
    const V inverse = 1.f / g.scale;
    I any_todo = {};
    for (int k = 0; k < OCTETS; ++k) {
        any_todo |= todo[k];
        I code = round_octet(g.x + 8 * k, inverse);
        for (int lane = 0; lane < W; ++lane) {
            if (!todo[k][lane] || grid.map[code[lane]] >= 0) continue;
            const Octet octet = {(const float *)(g.x + 8 * k) + lane, (const float *)(g.root + 8 * k) + lane, ODD};
            code[lane] = nearest(grid, code[lane], octet, g.scale[lane], 0.f).code;
        }
        g.code[k] = select(todo[k], code, g.code[k]);
    }
    V wx[N], sumqx, sumq2;
    for (int i = 0; i < N; ++i) wx[i] = g.w[i] * g.x[i];
    score<N>(wx, g.w, g.code, sumqx, sumq2);
    g.scale = select(any_todo & (sumq2 > 0.f), sumqx / sumq2, g.scale);
}

}  // namespace quantmill::QM_LEVEL
