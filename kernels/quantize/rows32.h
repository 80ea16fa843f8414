// What the block formats of 32 weights share: their quants' bytes, and the one statistic of the whole row that they take when an
// importance vector is given.
#pragma once

#include "quantize/weights.h"

namespace quantmill::QM_LEVEL {

constexpr int BLOCK = 32;

// Bytes of quants, low nibbles first; Q5_0's and Q5_1's fifth bits are a word of their own before them.
template <int BITS>
QM_INLINE void store_quants(const Batch &batch, int offset, const I *q) {
    I words[5] = {};
    if (BITS == 5) {
        for (int j = 0; j < BLOCK; ++j) words[0] |= ((q[j] >> 4) & 1) << j;
    }
    constexpr int skip = BITS == 5 ? 1 : 0;
    for (int j = 0; j < 16; ++j) {
        const I byte = BITS == 5 ? (q[j] & 15) | (q[j + 16] & 15) << 4 : (q[j] | q[j + 16] << 4) & 0xff;
        words[skip + j / 4] |= byte << (8 * (j % 4));
    }
    store_words(batch, offset, words, skip + 4);
}

// Calls work(batch, mean) for all blocks, W rows at a time; mean is the mean square of each lane's row, summed in order.
template <int SIZE, class Work>
QM_INLINE void for_row_batches(const float *src, std::uint8_t *dst, std::int64_t rows, std::int64_t cols, const float *importance,
                               Work work) {
    const std::int64_t row_bytes = cols / BLOCK * SIZE;
    for (std::int64_t first = 0; first < rows; first += W) {
        const std::int64_t count = rows - first < W ? rows - first : W;
        const float *begin[W];
        V sum = {}, x[BLOCK];
        for (std::int64_t column = 0; column < cols; column += BLOCK) {
            for (int i = 0; i < W; ++i) begin[i] = src + (first + (i < count ? i : count - 1)) * cols + column;
            load_lanes(begin, 0, BLOCK, x);
            for (int j = 0; j < BLOCK; ++j) sum += x[j] * x[j];
        }
        const V means = sum / float(cols);
        for_batches<BLOCK, SIZE>(src + first * cols, dst + first * row_bytes, count, cols, importance, [&](const Batch &batch) {
            V mean;
            for (int i = 0; i < W; ++i) mean[i] = means[batch.row[i]];
            work(batch, mean);
        });
    }
}

}  // namespace quantmill::QM_LEVEL
