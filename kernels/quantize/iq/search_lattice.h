// The search of the IQ2 formats: a scale, and for every eight weights the point of a grid, that together fit N weights best.
//
// The reference rounds the weights at each candidate scale and, where that gives no point of the grid, tries the neighbours
// of what it got. Here the rounding and the scores are computed with blocks in lanes, the neighbours (nearest.h) for one lane
// after another. Between one candidate and the next few roundings change, so the same neighbours are asked again and again,
// at another scale. The difference between two neighbours' errors is scale * (a * scale - b), so a neighbour that wins at two
// scales wins at all between: only the ends of such a run are evaluated, and the rest only where rounding errors could
// decide (the margin).
#pragma once

#include "quantize/iq/nearest.h"
#include "quantize/super.h"

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

// All octets of all lanes at all candidate scales. A place is an index into the codes: (step * OCTETS + octet) * W + lane.
template <int N, int COUNT>
struct Candidates {
    static constexpr int OCTETS = N / 8, STEP = OCTETS * W, PLACES = COUNT * STEP;
    V scales[COUNT], margins[OCTETS];
    I rounded[COUNT][OCTETS];
    I codes[COUNT][OCTETS];  // the rounded ones, with neighbours in place of those that are on no point
    bool clear[PLACES];
};

// Two places of one octet of one lane with the same rounded code all the way.
struct Span {
    std::uint16_t first, last;
};

template <int N, int COUNT>
QM_INLINE void evaluate(const Grid &grid, const Lattice<N> &g, Candidates<N, COUNT> &c, const std::uint16_t *places, int count) {
    constexpr int OCTETS = N / 8, STEP = OCTETS * W;
    nearest_of<COUNT * STEP>(
        grid, places, count,
        [&](int place) -> Octet {
            const int lane = place % W, k = place / W % OCTETS, step = place / STEP;
            return {((const std::int32_t *)c.rounded)[place],
                    (const float *)(g.x + 8 * k) + lane,
                    (const float *)(g.root + 8 * k) + lane,
                    ((const float *)c.scales)[step * W + lane],
                    ((const float *)c.margins)[k * W + lane],
                    ODD};
        },
        [&](int place, Nearest found) {
            ((std::int32_t *)c.codes)[place] = found.code;
            c.clear[place] = found.clear;
        });
}

// Replaces every code that is on no point. Questions are collected before they are answered: what to ask next depends on the
// answers, and waiting for each would take longer than it.
template <int N, int COUNT>
QM_OUTLINE void settle(const Grid &grid, const Lattice<N> &g, I active, Candidates<N, COUNT> &c) {
    constexpr int OCTETS = N / 8, STEP = OCTETS * W, PLACES = COUNT * STEP;
    std::int32_t *const codes = (std::int32_t *)c.codes;
    std::uint16_t asked[PLACES + 1];
    Span spans[2][PLACES / 2 + 1];
    int questions = 0, open = 0;
    for (int k = 0; k < OCTETS; ++k) {
        I changes = {};
        for (int step = 1; step < COUNT; ++step) changes |= (c.rounded[step][k] != c.rounded[step - 1][k]) & (1 << step);
        for (int lane = 0; lane < W; ++lane) {
            if (!active[lane]) continue;
            unsigned starts = unsigned(changes[lane]) | 1u << COUNT;
            for (int first = 0; first < COUNT;) {
                const int next = __builtin_ctz(starts), from = first * STEP + k * W + lane, to = from + (next - 1 - first) * STEP;
                const bool off = grid.chunks[codes[from]] != 0;
                asked[questions] = std::uint16_t(from);
                questions += off;
                asked[questions] = std::uint16_t(to);
                questions += off & (to > from);
                spans[0][open] = {std::uint16_t(from), std::uint16_t(to)};
                open += off & (to > from + STEP);
                starts &= starts - 1;
                first = next;
            }
        }
    }
    evaluate<N, COUNT>(grid, g, c, asked, questions);
    for (int round = 0; open > 0; round ^= 1) {
        // Every list is written as if the span belonged in it, and grows only if it does: a guess would fail too often.
        Span alike[PLACES / 2 + 1];
        int same = 0, halves = 0;
        questions = 0;
        for (int n = 0; n < open; ++n) {
            const Span span = spans[round][n];
            const int first = span.first, last = span.last, steps = (last - first) / STEP;
            const int middle = first + steps / 2 * STEP;
            const bool settled = c.clear[first] & c.clear[last] & (codes[first] == codes[last]);
            alike[same] = span;
            same += settled;
            asked[questions] = std::uint16_t(middle);
            questions += !settled;
            spans[round ^ 1][halves] = {span.first, std::uint16_t(middle)};
            halves += !settled & (steps > 3);
            spans[round ^ 1][halves] = {std::uint16_t(middle), span.last};
            halves += !settled & (steps > 2);
        }
        for (int n = 0; n < same; ++n) {
            for (int place = alike[n].first + STEP; place < alike[n].last; place += STEP) codes[place] = codes[alike[n].first];
        }
        evaluate<N, COUNT>(grid, g, c, asked, questions);
        open = halves;
    }
}

// Candidates (5 + tenths / 10) / largest for tenths = -STEPS .. STEPS, in lanes of `active`. Sets g.scale where one is better
// than nothing, g.code, g.on_grid and g.won.
template <int N, int STEPS>
QM_OUTLINE void search_lattice(const Grid &grid, Lattice<N> &g, V largest, I active) {
    constexpr int OCTETS = N / 8, COUNT = 2 * STEPS + 1;
    Candidates<N, COUNT> c;
    for (int step = 0; step < COUNT; ++step) {
        const V inverse = (5.f + float(step - STEPS) * 0.1f) / largest;
        c.scales[step] = 1.f / inverse;
        for (int k = 0; k < OCTETS; ++k) c.codes[step][k] = c.rounded[step][k] = round_octet(g.x + 8 * k, inverse);
    }
    for (int k = 0; k < OCTETS; ++k) c.margins[k] = safe_margin(g.x + 8 * k, g.root + 8 * k, c.scales[0]);
    settle<N, COUNT>(grid, g, active, c);
    V wx[N], best = {};
    for (int i = 0; i < N; ++i) wx[i] = g.w[i] * g.x[i];
    g.won = I{};
    for (int k = 0; k < OCTETS; ++k) g.code[k] = I{}, g.on_grid[k] = splat_int(-1);
    for (int step = 0; step < COUNT; ++step) {
        V sumqx, sumq2;
        score<N>(wx, g.w, c.codes[step], sumqx, sumq2);
        const I better = active & (sumq2 > 0.f) & (sumqx * sumqx > best * sumq2);
        g.scale = select(better, sumqx / sumq2, g.scale);
        best = select(better, g.scale * sumqx, best);
        g.won |= better;
        for (int k = 0; k < OCTETS; ++k) {
            g.code[k] = select(better, c.codes[step][k], g.code[k]);
            g.on_grid[k] = select(better, c.codes[step][k] == c.rounded[step][k], g.on_grid[k]);
        }
    }
}

// Rounds the octets of the lanes in `todo` again, at the scale found, and fits the scale to that.
template <int N>
QM_OUTLINE void refine_lattice(const Grid &grid, Lattice<N> &g, const I *todo) {
    constexpr int OCTETS = N / 8;
    const V inverse = 1.f / g.scale;
    I codes[OCTETS], any_todo = {};
    std::uint16_t asked[OCTETS * W + 1];
    int questions = 0;
    for (int k = 0; k < OCTETS; ++k) {
        any_todo |= todo[k];
        codes[k] = select(todo[k], round_octet(g.x + 8 * k, inverse), g.code[k]);
        for (int lane = 0; lane < W; ++lane) {
            asked[questions] = std::uint16_t(k * W + lane);
            questions += todo[k][lane] & (grid.chunks[codes[k][lane]] != 0);
        }
    }
    nearest_of<OCTETS * W>(
        grid, asked, questions,
        [&](int place) -> Octet {
            const int lane = place % W, k = place / W;
            return {((const std::int32_t *)codes)[place], (const float *)(g.x + 8 * k) + lane,
                    (const float *)(g.root + 8 * k) + lane, ((const float *)&g.scale)[lane], 0.f, ODD};
        },
        [&](int place, Nearest found) { ((std::int32_t *)codes)[place] = found.code; });
    for (int k = 0; k < OCTETS; ++k) g.code[k] = codes[k];
    V wx[N], sumqx, sumq2;
    for (int i = 0; i < N; ++i) wx[i] = g.w[i] * g.x[i];
    score<N>(wx, g.w, g.code, sumqx, sumq2);
    g.scale = select(any_todo & (sumq2 > 0.f), sumqx / sumq2, g.scale);
}

}  // namespace quantmill::QM_LEVEL
