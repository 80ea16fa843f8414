// The search of IQ3_XXS and IQ3_S: 32 weights as eight points of a lattice of four dimensions, times one scale.
//
// Each candidate scale rounds every four weights to levels; levels that are not a point of the grid are replaced by the one of their
// neighbours with the least error. Candidates lie in lanes. Over all of them four weights meet only a handful of different levels,
// so a list of neighbours is walked once for a whole run of candidates, and its errors are made of terms w * (scale * q - x)^2
// that are computed once per weight, level and candidate.
#pragma once

#include "grids.h"
#include "simd.h"

namespace quantmill::QM_LEVEL {

constexpr int GROUP = 32, QUADS = GROUP / 4;
constexpr float LARGEST_FLOAT = 3.402823466e+38f;

// A point as four bytes, each 16 times a level: 8 times a byte is where that level's terms are.
using Point = std::uint32_t;
constexpr int TERM_BYTES = 128;

// The points that may stand for each code: the code itself where it is on the grid, else its neighbours in their order.
struct Lists {
    std::uint16_t begin[4097];
    Point points[4096 * 10];  // up to 9 on average

    explicit Lists(const Grid &grid) {
        int count = 0;
        for (int code = 0; code < 4096; ++code) {
            begin[code] = std::uint16_t(count);
            if (grid.map[code] >= 0) {
                points[count++] = point(code);
                continue;
            }
            const std::uint16_t *list = grid.neighbours + 16 * ~grid.map[code];
            int n = 16 * grid.chunks[code];
            while (n > 1 && list[n - 1] == list[n - 2]) --n;  // padding repeats the last one
            for (int j = 0; j < n; ++j) points[count++] = point(list[j]);
        }
        begin[4096] = std::uint16_t(count);
    }

    static Point point(int code) {
        return Point(code & 7) << 4 | Point(code & 0x38) << 9 | Point(code & 0x1c0) << 14 | Point(code & 0xe00) << 19;
    }
    static int code(Point p) { return int((p >> 4 & 7) | (p >> 9 & 0x38) | (p >> 14 & 0x1c0) | (p >> 19 & 0xe00)); }
};

// 2 * level + 1 of weight i.
QM_INLINE float odd(Point p, int i) { return float(int(p >> (8 * i + 3) & 14) + 1); }

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
    Point points[QUADS];
    std::uint8_t on_grid;  // bit k: the levels of quad k needed no neighbour
    float scale;
};

// N candidate scales around largest / 15, in steps of 0.2 / 15 of its inverse.
template <int N>
struct Candidates {
    static constexpr int VECTORS = (N + W - 1) / W, LANES = VECTORS * W;
    static_assert(VECTORS * sizeof(V) <= TERM_BYTES, "terms of one level are TERM_BYTES apart");

    V inverse[VECTORS], scaled[8][VECTORS];  // scaled: scale * (2 * level + 1)

    explicit Candidates(float largest) {
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

QM_INLINE V term(const std::uint8_t *terms, int weight, Point p, int v) {
    V t;
    std::memcpy(&t, terms + 8 * TERM_BYTES * weight + 8 * (p >> (8 * weight) & 0xff) + sizeof(V) * v, sizeof t);
    return t;
}

// What four weights become under each candidate: the levels they round to, and the points that these become.
template <int N>
struct Quad {
    static constexpr int VECTORS = Candidates<N>::VECTORS, LANES = Candidates<N>::LANES;

    alignas(64) std::int32_t codes[LANES];
    alignas(64) Point points[LANES] = {};
};

// W of a quad's values.
template <class T>
QM_INLINE I lanes_at(const T *values, int v) {
    I lanes;
    std::memcpy(&lanes, values + W * v, sizeof lanes);
    return lanes;
}

template <int N>
QM_INLINE void round_to_levels(const Candidates<N> &candidates, const float *x, Quad<N> &quad) {
    for (int v = 0; v < quad.VECTORS; ++v) {
        I code = {};
        QM_UNROLL
        for (int i = 0; i < 4; ++i) {
            const I level = nearest_int(0.5f * (candidates.inverse[v] * x[i] - 1.f));
            code |= lesser(greater(level, I{}), splat_int(7)) << (3 * i);
        }
        std::memcpy(quad.codes + W * v, &code, sizeof code);
    }
}

template <int N>
QM_INLINE void fill_terms(const Candidates<N> &candidates, const float *x, const float *root, std::uint8_t *terms) {
    for (int i = 0; i < 4; ++i) {
        for (int level = 0; level < 8; ++level) {
            QM_UNROLL
            for (int v = 0; v < Candidates<N>::VECTORS; ++v) {
                const V difference = candidates.scaled[level][v] - x[i];
                const V t = root[i] * difference * difference;
                std::memcpy(terms + TERM_BYTES * (8 * i + level) + sizeof(V) * v, &t, sizeof t);
            }
        }
    }
}

template <int N>
QM_INLINE void find_points(const Lists &lists, const std::uint8_t *terms, Quad<N> &quad) {
    for (int first = 0; first < quad.LANES;) {
        const int code = quad.codes[first];
        int last = first;
        while (last + 1 < quad.LANES && quad.codes[last + 1] == code) ++last;
        const Point *begin = lists.points + lists.begin[code], *end = lists.points + lists.begin[code + 1];
        for (int v = first / W; v <= last / W; ++v) {
            I best_point = splat_int(std::int32_t(*begin));
            if (end - begin > 1) {
                V best = splat(LARGEST_FLOAT);
                for (const Point *p = begin; p < end; ++p) {
                    const V error = term(terms, 0, *p, v) + term(terms, 1, *p, v) + term(terms, 2, *p, v) + term(terms, 3, *p, v);
                    const I better = error < best;
                    best = select(better, error, best);
                    best_point = select(better, splat_int(std::int32_t(*p)), best_point);
                }
            }
            best_point = select(lanes_at(quad.codes, v) == code, best_point, lanes_at(quad.points, v));
            std::memcpy(quad.points + W * v, &best_point, sizeof best_point);
        }
        first = last + 1;
    }
}

// The best candidate, or `choice` as it was where all weights count for (almost) nothing. Returns whether one was found.
template <int N>
QM_OUTLINE bool search(const Lists &lists, const Group &group, Choice &choice) {
    constexpr int VECTORS = Candidates<N>::VECTORS;
    const Candidates<N> candidates(group.largest);
    Quad<N> quads[QUADS];
    alignas(64) std::uint8_t terms[4 * 8 * TERM_BYTES];
    V qx[VECTORS] = {}, q2[VECTORS] = {};
    for (int k = 0; k < QUADS; ++k) {
        const float *x = group.x + 4 * k, *weight = group.weight + 4 * k;
        round_to_levels(candidates, x, quads[k]);
        fill_terms(candidates, x, group.root + 4 * k, terms);
        find_points(lists, terms, quads[k]);
        for (int v = 0; v < VECTORS; ++v) {
            const I points = lanes_at(quads[k].points, v);
            QM_UNROLL
            for (int i = 0; i < 4; ++i) {
                const V q = to_float(((points >> (8 * i + 3)) & 14) + 1);
                qx[v] += weight[i] * x[i] * q;
                q2[v] += weight[i] * q * q;
            }
        }
    }
    float best = 0;
    int at = -1;
    for (int c = 0; c < N; ++c) {
        const float x = qx[c / W][c % W], two = q2[c / W][c % W];
        if (two > 0 && x * x > best * two) {
            choice.scale = x / two;
            best = choice.scale * x;
            at = c;
        }
    }
    if (at < 0) return false;
    choice.on_grid = 0;
    for (int k = 0; k < QUADS; ++k) {
        choice.points[k] = quads[k].points[at];
        choice.on_grid |= std::uint8_t((Lists::point(quads[k].codes[at]) == quads[k].points[at]) << k);
    }
    return true;
}

// Finds points anew for the quads in the set `which`, at the scale chosen, and then the scale anew for all of them.
QM_OUTLINE void refine(const Lists &lists, const Group &group, unsigned which, Choice &choice) {
    const float inverse = 1 / choice.scale;
    for (int k = 0; k < QUADS; ++k) {
        if (!(which >> k & 1)) continue;
        const float *x = group.x + 4 * k, *root = group.root + 4 * k;
        V scaled = {};
        for (int i = 0; i < 4; ++i) scaled[i] = x[i];
        const I levels = lesser(greater(nearest_int(0.5f * (inverse * scaled - 1.f)), I{}), splat_int(7));
        const int code = levels[0] | levels[1] << 3 | levels[2] << 6 | levels[3] << 9;
        const Point *begin = lists.points + lists.begin[code], *end = lists.points + lists.begin[code + 1];
        choice.points[k] = *begin;
        if (end - begin == 1) continue;
        float terms[4][8];
        for (int i = 0; i < 4; ++i) {
            for (int level = 0; level < 8; ++level) {
                const float difference = choice.scale * float(2 * level + 1) - x[i];
                terms[i][level] = root[i] * difference * difference;
            }
        }
        float best = LARGEST_FLOAT;
        for (const Point *p = begin; p < end; ++p) {
            const float error =
                terms[0][*p >> 4 & 7] + terms[1][*p >> 12 & 7] + terms[2][*p >> 20 & 7] + terms[3][*p >> 28 & 7];
            if (error < best) {
                best = error;
                choice.points[k] = *p;
            }
        }
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
