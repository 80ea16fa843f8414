// The search of IQ3_XXS and IQ3_S: 32 weights as eight points of a lattice of four dimensions, times one scale.
//
// Each candidate scale rounds every four weights to levels; levels that are not a point of the grid are replaced by the one of their
// neighbours with the least error. Candidates lie in lanes. Over all of them four weights meet only a handful of different levels,
// so a list of neighbours is walked once for a whole run of candidates, and its errors are made of terms w * (scale * q - x)^2
// that are computed once per weight, level and candidate.
#pragma once

#include "quantize/iq/iq3_lists.h"

namespace quantmill::QM_LEVEL {

constexpr int GROUP = 32, QUADS = GROUP / 4;
constexpr float LARGEST_FLOAT = 3.402823466e+38f;

QM_INLINE unsigned lane_bits(I mask) {
#if defined(__AVX512DQ__)
    typedef int Vi __attribute__((vector_size(64)));
    return unsigned(__builtin_ia32_cvtd2mask512((Vi)mask)) & 0xffff;
#elif defined(__AVX2__)
    return unsigned(__builtin_ia32_movmskps256((V)mask));
#elif defined(__SSE2__)
    return unsigned(__builtin_ia32_movmskps((V)mask));
#else
    unsigned found = 0;
    for (int i = 0; i < W; ++i) found |= unsigned(mask[i] & 1) << i;
    return found;
#endif
}

// One group of weights, all made positive (but for the one that IQ3_XXS may flip).
struct Group {
    alignas(64) float x[GROUP];
    alignas(64) float weight[GROUP];
    alignas(64) float root[GROUP];  // square roots of the weights, by which neighbours are compared
    float largest;
};

struct Choice {
    Levels points[QUADS];
    std::uint8_t on_grid;  // bit k: the levels of quad k needed no neighbour
    float scale;
};

// How far from the middle of a cell (half a level wide on each side) a weight may lie for the shorter lists to serve. The
// roundings on the way to a term displace it by less than 1e-5; where scales may be subnormal, nothing is sure.
QM_INLINE float inside_cell(float largest) { return largest > 1e-30f ? 0.4999f : -1.f; }

// The levels that positions (of level 0 at 0, level 1 at 1) round to; adds to `outside` the lanes not inside their cell.
QM_INLINE I round_levels(V position, float inside, I &outside) {
    const V middle = (position + ROUNDER) - ROUNDER;
    outside |= ~(absolute(position - middle) < inside);
    return lesser(greater(nearest_int(position), I{}), splat_int(7));
}

// N candidate scales around largest / 15, in steps of 0.2 / 15 of its inverse.
template <int N>
struct Candidates {
    static constexpr int VECTORS = (N + W - 1) / W, LANES = VECTORS * W;

    V inverse[VECTORS], scaled[8][VECTORS];  // scaled: scale * (2 * level + 1)
    float inside;                            // see inside_cell

    explicit Candidates(float largest) : inside(inside_cell(largest)) {
        for (int v = 0; v < VECTORS; ++v) {
            // Surplus lanes repeat the last candidate, and so never begin a run of their own.
            I step;
            for (int i = 0; i < W; ++i) step[i] = (v * W + i < N ? v * W + i : N - 1) - N / 2;
            inverse[v] = (15.f + to_float(step) * 0.2f) / largest;
            const V scale = 1.f / inverse[v];
            for (int level = 0; level < 8; ++level) scaled[level][v] = scale * float(2 * level + 1);
        }
    }
};

QM_INLINE std::int32_t levels_at(const std::uint8_t (&point)[4]) {
    std::int32_t levels;
    std::memcpy(&levels, point, sizeof levels);
    return levels;
}

// W of an array's values.
template <class T>
QM_INLINE I lanes_at(const T *values) {
    I lanes;
    std::memcpy(&lanes, values, sizeof lanes);
    return lanes;
}

QM_INLINE V minimum(V a, V b) {  // a < b ? a : b, which GCC does not always see to be one instruction
#if defined(__AVX512F__)
    return (V)_mm512_maskz_min_ps(__mmask16(-1), (__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (V)_mm256_min_ps((__m256)a, (__m256)b);
#elif defined(__SSE2__)
    return (V)_mm_min_ps((__m128)a, (__m128)b);
#else
    return lesser(a, b);
#endif
}

QM_INLINE V maximum(V a, V b) {  // a > b ? a : b
#if defined(__AVX512F__)
    return (V)_mm512_maskz_max_ps(__mmask16(-1), (__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (V)_mm256_max_ps((__m256)a, (__m256)b);
#elif defined(__SSE2__)
    return (V)_mm_max_ps((__m128)a, (__m128)b);
#else
    return greater(a, b);
#endif
}

// Some quads, each under every candidate: element LANES * k + c is quad k's under candidate c.
template <int N, int COUNT>
struct Quads {
    static constexpr int LANES = Candidates<N>::LANES;
    static constexpr unsigned UNUSED = COUNT * Candidates<N>::VECTORS;

    alignas(64) V terms[COUNT * Candidates<N>::VECTORS][4][8];  // of each weight and level
    alignas(64) Levels points[COUNT * LANES + W];               // what the weights become, and a vector of no use
    Levels before;                                              // so that a lane below can be compared with the one before it
    Levels rounded[COUNT * LANES];                              // what they round to
    int whole[COUNT * Candidates<N>::VECTORS];                  // 4096 where a vector needs the whole lists
};

template <int N, int COUNT>
QM_INLINE void round_to_levels(const Candidates<N> &candidates, const float *x, Quads<N, COUNT> &quads) {
    for (int k = 0; k < COUNT; ++k) {
        for (int v = 0; v < candidates.VECTORS; ++v) {
            I levels = {}, outside = {};
            QM_UNROLL
            for (int i = 0; i < 4; ++i) {
                const V position = 0.5f * (candidates.inverse[v] * x[4 * k + i] - 1.f);
                levels |= round_levels(position, candidates.inside, outside) << (8 * i + 4);
            }
            quads.whole[k * candidates.VECTORS + v] = any(outside) ? 4096 : 0;
            std::memcpy(quads.points + k * quads.LANES + W * v, &levels, sizeof levels);
            std::memcpy(quads.rounded + k * quads.LANES + W * v, &levels, sizeof levels);
        }
    }
}

template <int N, int COUNT>
QM_INLINE void fill_terms(const Candidates<N> &candidates, const float *x, const float *root, Quads<N, COUNT> &quads) {
    for (int k = 0; k < COUNT; ++k) {
        for (int v = 0; v < candidates.VECTORS; ++v) {
            QM_UNROLL
            for (int level = 0; level < 8; ++level) {
                QM_UNROLL
                for (int i = 0; i < 4; ++i) {
                    const V difference = candidates.scaled[level][v] - x[4 * k + i];
                    quads.terms[k * candidates.VECTORS + v][i][level] = root[4 * k + i] * difference * difference;
                }
            }
        }
    }
}

// The term at 16 * level bytes, times the vectors' width in units of 16 bytes.
QM_INLINE V term(const V *of_weight, std::uint8_t at) {
    V t;
    std::memcpy(&t, reinterpret_cast<const char *>(of_weight) + sizeof(V) / 16 * at, sizeof t);
    return t;
}

// A run of lanes of one vector that round to the same levels, not on the grid, and the points that compete there.
struct Run {
    unsigned vector;
    std::int32_t rounded;
    int begin, end;
};

// Returns how many runs there are, and how many chunks their lists have together.
template <int N, int COUNT>
QM_INLINE int find_runs(const Lists &lists, const Quads<N, COUNT> &quads, Run *runs, int &chunks) {
    constexpr unsigned STEP = 2 * quads.LANES;  // two quads' beginnings of runs fit a word
    int count = 0;
    chunks = 0;
    for (unsigned first = 0; first < COUNT * quads.LANES; first += STEP) {
        std::uint64_t begins = 0;
        QM_UNROLL
        for (unsigned i = 0; i < STEP; i += W) {
            const Levels *lane = quads.rounded + first + i;
            begins |= std::uint64_t(1 | lane_bits(lanes_at(lane) != lanes_at(lane - 1))) << i;
        }
        for (; begins; begins &= begins - 1) {
            const unsigned lane = first + unsigned(__builtin_ctzll(begins));
            const Levels rounded = quads.rounded[lane];
            const int list = Lists::code(rounded) + quads.whole[lane / W];
            // A run without points is written, but not kept: a branch would often be predicted wrongly.
            runs[count] = {lane / W, std::int32_t(rounded), lists.begin[list], lists.begin[list + 1]};
            __builtin_prefetch(lists.points[runs[count].begin]);
            chunks += (runs[count].end - runs[count].begin) / CHUNK;
            count += runs[count].end != runs[count].begin;
        }
    }
    return count;
}

// Replaces levels by points. One loop over the chunks of all lists: its only branch is always predicted.
template <int N, int COUNT>
QM_INLINE void find_points(const Lists &lists, Quads<N, COUNT> &quads) {
    Run runs[COUNT * quads.LANES + 1];
    int chunks;
    runs[find_runs(lists, quads, runs, chunks)] = {};
    const Run *run = runs;
    int at = run->begin;
    // A list begins with the largest error as the one to beat; raising by zero keeps the best one found so far.
    static constexpr float TO_BEAT[2] = {0, LARGEST_FLOAT};
    unsigned done = 1;
    V best = {};
    I point = {};
    for (int c = 0; c < chunks; ++c) {
        const auto *points = lists.points + at;
        const unsigned vector = run->vector;
        const auto *terms = quads.terms[vector];
        best = maximum(best, splat(TO_BEAT[done]));
        QM_UNROLL
        for (int j = 0; j < CHUNK; ++j) {
            const V error = term(terms[0], points[j][0]) + term(terms[1], points[j][1]) + term(terms[2], points[j][2]) +
                            term(terms[3], points[j][3]);
            point = select(error < best, splat_int(levels_at(points[j])), point);
            best = minimum(error, best);
        }
        // No point found equals the levels of a later run, which are none.
        const I before = lanes_at(quads.points + W * vector);
        const I chosen = select(before == run->rounded, point, before);
        at += CHUNK;
        // Without a branch, which no processor would predict: what is not done goes to a place of no use.
        done = at == run->end;
        std::memcpy(quads.points + W * (quads.UNUSED + (vector - quads.UNUSED) * done), &chosen, sizeof chosen);
        run += done;
        at += (run->begin - at) * int(done);
    }
}

// The best candidate, or `choice` as it was where all weights count for (almost) nothing. Returns whether one was found.
template <int N>
QM_OUTLINE bool search(const Lists &lists, const Group &group, Choice &choice) {
    constexpr int VECTORS = Candidates<N>::VECTORS;
    const Candidates<N> candidates(group.largest);
    constexpr int LANES = Candidates<N>::LANES, HALF = QUADS / 2;
    Quads<N, HALF> halves[2];
    V qx[VECTORS] = {}, q2[VECTORS] = {};
    for (int h = 0; h < 2; ++h) {
        const float *x = group.x + 4 * HALF * h, *weight = group.weight + 4 * HALF * h;
        round_to_levels(candidates, x, halves[h]);
        fill_terms(candidates, x, group.root + 4 * HALF * h, halves[h]);
        find_points(lists, halves[h]);
        for (int j = 0; j < 4 * HALF; ++j) {
            for (int v = 0; v < VECTORS; ++v) {
                const I points = lanes_at(halves[h].points + j / 4 * LANES + W * v);
                const V q = to_float(((points >> (8 * (j % 4) + 3)) & 14) + 1);
                qx[v] += weight[j] * x[j] * q;
                q2[v] += weight[j] * q * q;
            }
        }
    }
    alignas(64) float x[Candidates<N>::LANES], two[Candidates<N>::LANES], square[Candidates<N>::LANES];
    for (int v = 0; v < VECTORS; ++v) {
        const V products = qx[v] * qx[v];
        std::memcpy(x + W * v, &qx[v], sizeof(V));
        std::memcpy(two + W * v, &q2[v], sizeof(V));
        std::memcpy(square + W * v, &products, sizeof(V));
    }
    float best = 0;
    int at = -1;
    for (int c = 0; c < N; ++c) {
        if (two[c] > 0 && square[c] > best * two[c]) {
            choice.scale = x[c] / two[c];
            best = choice.scale * x[c];
            at = c;
        }
    }
    if (at < 0) return false;
    choice.on_grid = 0;
    for (int k = 0; k < QUADS; ++k) {
        const int lane = k % HALF * LANES + at;
        choice.points[k] = halves[k / HALF].points[lane];
        choice.on_grid |= std::uint8_t((halves[k / HALF].rounded[lane] == choice.points[k]) << k);
    }
    return true;
}

// Finds points anew for the quads in the set `which`, at the scale chosen, and then the scale anew for all of them.
QM_OUTLINE void refine(const Lists &lists, const Group &group, unsigned which, Choice &choice) {
    const float inverse = 1 / choice.scale;
    alignas(64) std::int32_t levels[GROUP], outsides[GROUP];
    alignas(64) float terms[8][GROUP];
    for (int j = 0; j < GROUP; j += W) {
        V x, root;
        std::memcpy(&x, group.x + j, sizeof x);
        std::memcpy(&root, group.root + j, sizeof root);
        I outside = {};
        const I rounded = round_levels(0.5f * (inverse * x - 1.f), inside_cell(choice.scale), outside);
        std::memcpy(outsides + j, &outside, sizeof outside);
        std::memcpy(levels + j, &rounded, sizeof rounded);
        QM_UNROLL
        for (int level = 0; level < 8; ++level) {
            const V difference = choice.scale * float(2 * level + 1) - x;
            const V t = root * difference * difference;
            std::memcpy(terms[level] + j, &t, sizeof t);
        }
    }
    for (int k = 0; k < QUADS; ++k) {
        if (!(which >> k & 1)) continue;
        const std::int32_t *l = levels + 4 * k;
        const int code = l[0] | l[1] << 3 | l[2] << 6 | l[3] << 9;
        choice.points[k] = Lists::spread(code);
        const std::int32_t *o = outsides + 4 * k;
        const int list = code + (o[0] | o[1] | o[2] | o[3] ? 4096 : 0);
        if (lists.begin[list] == lists.begin[list + 1]) continue;
        // Errors are not negative, so their bits are ordered as they are; the place below them lets the first of equals win.
        std::uint64_t best = std::uint64_t(0x7f7fffff) << 32 | lists.begin[list];
        for (unsigned at = lists.begin[list]; at < lists.begin[list + 1]; ++at) {
            const std::uint8_t *p = lists.points[at];
            // Terms of one level take 8 times 16 bytes.
            const char *of_quad = reinterpret_cast<const char *>(terms[0] + 4 * k);
            float t[4];
            for (int i = 0; i < 4; ++i) std::memcpy(t + i, of_quad + 4 * i + 8 * p[i], 4);
            const float error = t[0] + t[1] + t[2] + t[3];
            std::uint32_t word;
            std::memcpy(&word, &error, sizeof word);
            const std::uint64_t rank = std::uint64_t(word) << 32 | at;
            best = best < rank ? best : rank;
        }
        choice.points[k] = Levels(levels_at(lists.points[best & 0xffff]));
    }
    float qx = 0, q2 = 0;
    for (int j = 0; j < GROUP; ++j) {
        const float q = odd(choice.points[j / 4], j % 4);
        qx += group.weight[j] * group.x[j] * q;
        q2 += group.weight[j] * q * q;
    }
    if (q2 > 0) choice.scale = qx / q2;
}

}  // namespace quantmill::QM_LEVEL
