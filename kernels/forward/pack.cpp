// Weights into panels: 32-bit words of PANEL rows are exchanged with rows of PANEL words. A word is a float, or two neighbouring
// 16-bit values of one row.
#include "forward/forward.h"
#include "forward/split.h"

namespace quantmill::QM_LEVEL {

// words[j] of row i, rows `stride` words apart, to panel[j * PANEL + i]; rows past the last are zeros.
static void interleave(const std::uint32_t *rows, int valid, std::int64_t stride, std::int64_t words, std::uint32_t *panel) {
    for (int base = 0; base < PANEL; base += W) {
        std::int64_t j = 0;
        for (; j + W <= words; j += W) {
            I tile[W];
            QM_UNROLL
            for (int i = 0; i < W; ++i) {
                tile[i] = I{};
                if (base + i < valid) std::memcpy(&tile[i], rows + (base + i) * stride + j, sizeof(I));
            }
            transpose(tile);
            QM_UNROLL
            for (int i = 0; i < W; ++i) std::memcpy(panel + (j + i) * PANEL + base, &tile[i], sizeof(I));
        }
        for (; j < words; ++j) {
            for (int i = 0; i < W; ++i) panel[j * PANEL + base + i] = base + i < valid ? rows[(base + i) * stride + j] : 0;
        }
    }
}

static void split(const float *from, std::int64_t count, std::uint16_t *high, std::uint16_t *low) {
    for (std::int64_t j = 0; j < count; j += W) {
        V v = {};
        const std::int64_t some = count - j < W ? count - j : W;
        std::memcpy(&v, from + j, std::size_t(some) * 4);
        const Parts parts = split_parts(v);
        const H first = __builtin_convertvector(parts.high, H), second = __builtin_convertvector(parts.low, H);
        std::memcpy(high + j, &first, std::size_t(some) * 2);
        std::memcpy(low + j, &second, std::size_t(some) * 2);
    }
}

extern const Packing packing;
const Packing packing = {interleave, split};

}  // namespace quantmill::QM_LEVEL
