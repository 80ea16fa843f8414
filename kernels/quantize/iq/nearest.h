// The neighbour of an off-grid point that fits eight weights best: for 8 weights of 3 levels (IQ2, IQ1).
//
// An error is a sum of eight terms w * (scale * value - x)^2, and each term can only be one of three: so they are computed
// once per search, and a neighbour's error is eight lookups, added in the reference's order. Neighbours lie in lanes.
#pragma once

#include "common/grids.h"
#include "common/simd.h"

namespace quantmill::QM_LEVEL {

// What the levels 0, 1 and 2 stand for; the fourth value (of the lists' padding) is infinite.
struct Levels {
    float values[4];
};

// `clear`: every other neighbour's error is larger by more than the margin asked for.
struct Nearest {
    int code;
    bool clear;
};

constexpr float LARGEST_FLOAT = 3.402823466e+38f;

// Eight weights of one lane (element i is at [W * i]) that rounded to `code`, which is on no point.
struct Octet {
    int code;
    const float *x, *w;
    float scale, margin;
    Levels levels;
};

#if defined(__AVX512F__)

template <int CHUNKS>
QM_INLINE Nearest nearest(const Grid &grid, const Octet &octet) {
    // Four bits of a code are two levels, so a table of 16 serves weight i (by the lower level) or i + 1 (by the upper).
    const __m512 by_lower = _mm512_broadcast_f32x4(_mm_loadu_ps(octet.levels.values));
    const __m512 by_upper =
        _mm512_permutexvar_ps(_mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0), by_lower);
    const __m512 s = _mm512_set1_ps(octet.scale), lower = s * by_lower, upper = s * by_upper;
    __m512 table[8];
    QM_UNROLL
    for (int i = 0; i < 8; ++i) {
        const __m512 difference = (i % 2 ? upper : lower) - _mm512_set1_ps(octet.x[W * i]);
        table[i] = _mm512_set1_ps(octet.w[W * i]) * difference * difference;
    }
    table[0] = table[0] + table[1];

    const int chunks = CHUNKS ? CHUNKS : grid.chunks[octet.code];
    const std::uint16_t *list = grid.neighbours + 16 * ~grid.map[octet.code];
    __m512 best = _mm512_set1_ps(LARGEST_FLOAT), second = best;
    __m512i where = _mm512_setzero_si512();
    for (int c = 0; c < chunks; ++c) {
        const __m512i p = _mm512_cvtepu16_epi32(_mm256_load_si256((const __m256i *)(list + 16 * c)));
        __m512 error = _mm512_permutexvar_ps(p, table[0]);
        QM_UNROLL
        for (int i = 2; i < 8; ++i) error = error + _mm512_permutexvar_ps(_mm512_srli_epi32(p, i / 2 * 4), table[i]);
        const __mmask16 better = _mm512_cmp_ps_mask(error, best, _CMP_LT_OQ);
        const __m512 worse = _mm512_mask_mov_ps(error, better, best);
        second = _mm512_min_ps(worse, second);
        best = _mm512_mask_mov_ps(best, better, error);
        where = _mm512_mask_mov_epi32(where, better, _mm512_set1_epi32(c));
    }
    const float least = _mm512_reduce_min_ps(best);
    const __m512 least_all = _mm512_set1_ps(least), limit = _mm512_set1_ps(least + octet.margin);
    const unsigned within = _mm512_cmp_ps_mask(best, limit, _CMP_LE_OQ);
    unsigned beside = within & (within - 1);
    if (CHUNKS != 1) beside |= _mm512_cmp_ps_mask(second, limit, _CMP_LE_OQ);
    unsigned equal = _mm512_cmp_ps_mask(best, least_all, _CMP_EQ_OQ);
    int chunk = 0;
    if (CHUNKS != 1) {
        // Of equally good ones the first of the list counts.
        chunk = _mm512_mask_reduce_min_epi32(__mmask16(equal), where);
        equal &= _mm512_cmpeq_epi32_mask(where, _mm512_set1_epi32(chunk));
    }
    return {list[16 * chunk + __builtin_ctz(equal)], beside == 0};
}

#elif defined(__AVX2__)

template <int CHUNKS>
QM_INLINE Nearest nearest(const Grid &grid, const Octet &octet) {
    const __m256 levels = _mm256_set1_ps(octet.scale) * _mm256_broadcast_ps((const __m128 *)octet.levels.values);
    __m256 table[8];
    QM_UNROLL
    for (int i = 0; i < 8; ++i) {
        const __m256 difference = levels - _mm256_set1_ps(octet.x[W * i]);
        table[i] = _mm256_set1_ps(octet.w[W * i]) * difference * difference;
    }
    const int chunks = 2 * (CHUNKS ? CHUNKS : grid.chunks[octet.code]);
    const std::uint16_t *list = grid.neighbours + 16 * ~grid.map[octet.code];
    __m256 best = _mm256_set1_ps(LARGEST_FLOAT), second = best;
    __m256i where = _mm256_setzero_si256();
    for (int c = 0; c < chunks; ++c) {
        const __m256i p = _mm256_cvtepu16_epi32(_mm_load_si128((const __m128i *)(list + 8 * c)));
        __m256 error = _mm256_permutevar_ps(table[0], p);
        QM_UNROLL
        for (int i = 1; i < 8; ++i) error = error + _mm256_permutevar_ps(table[i], _mm256_srli_epi32(p, 2 * i));
        const __m256 better = _mm256_cmp_ps(error, best, _CMP_LT_OQ);
        const __m256 worse = _mm256_blendv_ps(error, best, better);
        second = _mm256_min_ps(worse, second);
        best = _mm256_blendv_ps(best, error, better);
        where = _mm256_blendv_epi8(where, _mm256_set1_epi32(c), (__m256i)better);
    }
    __m256 all = _mm256_min_ps(best, _mm256_permute2f128_ps(best, best, 1));
    all = _mm256_min_ps(all, _mm256_permute_ps(all, 0x4e));
    all = _mm256_min_ps(all, _mm256_permute_ps(all, 0xb1));
    const __m256 limit = all + _mm256_set1_ps(octet.margin);
    const unsigned within = _mm256_movemask_ps(_mm256_cmp_ps(best, limit, _CMP_LE_OQ));
    const unsigned beside = (within & (within - 1)) | _mm256_movemask_ps(_mm256_cmp_ps(second, limit, _CMP_LE_OQ));
    unsigned equal = _mm256_movemask_ps(_mm256_cmp_ps(best, all, _CMP_EQ_OQ));
    int first = 1 << 30;
    for (; equal; equal &= equal - 1) {
        const int lane = __builtin_ctz(equal), place = 8 * ((I)where)[lane] + lane;
        first = place < first ? place : first;
    }
    return {list[first], beside == 0};
}

#else

template <int CHUNKS>
QM_INLINE Nearest nearest(const Grid &grid, const Octet &octet) {
    float table[8][4];
    for (int i = 0; i < 8; ++i) {
        for (int level = 0; level < 4; ++level) {
            const float difference = octet.scale * octet.levels.values[level] - octet.x[W * i];
            table[i][level] = octet.w[W * i] * difference * difference;
        }
    }
    const int count = 16 * (CHUNKS ? CHUNKS : grid.chunks[octet.code]);
    const std::uint16_t *list = grid.neighbours + 16 * ~grid.map[octet.code];
    float best = LARGEST_FLOAT, second = best;
    int found = list[0];
    for (int n = 0; n < count && list[n] != 0xffff; ++n) {
        const int p = list[n];
        float error = table[0][p & 3];
        QM_UNROLL
        for (int i = 1; i < 8; ++i) error += table[i][(p >> 2 * i) & 3];
        if (error < best) {
            second = best;
            best = error;
            found = p;
        } else if (error < second) {
            second = error;
        }
    }
    return {found, second > best + octet.margin};
}

#endif

// Asks for many at once: answer(place, nearest neighbour of ask(place)) for `count` places, in any order. They are sorted first
// by the length of their lists: a short search takes less time than a branch that was predicted wrong.
template <int MOST, class Ask, class Answer>
QM_INLINE void nearest_of(const Grid &grid, const std::uint16_t *places, int count, Ask ask, Answer answer) {
    std::uint16_t ones[MOST], twos[MOST], others[MOST];
    int n_ones = 0, n_twos = 0, n_others = 0;
    for (int n = 0; n < count; ++n) {
        const int chunks = grid.chunks[ask(places[n]).code];
        ones[n_ones] = twos[n_twos] = others[n_others] = places[n];
        n_ones += chunks == 1;
        n_twos += chunks == 2;
        n_others += chunks > 2;
    }
    for (int n = 0; n < n_ones; ++n) answer(ones[n], nearest<1>(grid, ask(ones[n])));
    for (int n = 0; n < n_twos; ++n) answer(twos[n], nearest<2>(grid, ask(twos[n])));
    for (int n = 0; n < n_others; ++n) answer(others[n], nearest<0>(grid, ask(others[n])));
}

}  // namespace quantmill::QM_LEVEL
