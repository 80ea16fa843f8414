// The f32 arithmetic: out[i][j] is one chain of fma, fma(x[i][k], w[j][k], sum), from zero in the order of k. Tiles, panels and slices
// of k share the work so that it stays in the caches, and none of them reorders a chain: what a slice of k leaves in out is exact.
#include "common/memory.h"
#include "forward/chains.h"

namespace quantmill::QM_LEVEL {

// Columns of k that are multiplied at a time, at most: a panel's slice stays in the second cache while all rows go by. A slice more is a
// pass more over out, which costs as much as some hundred columns. A k that is a little more is cut into equal slices.
constexpr int MOST = 1536;
static std::int64_t slice_of(std::int64_t k) {
    const std::int64_t slices = (k + MOST - 1) / MOST;
    return slices ? ((k + slices - 1) / slices + 31) / 32 * 32 : 32;
}

static std::int64_t packed_bytes(std::int64_t k) { return k * ROWS * 4; }

// [slice][panel][k of the slice][ROWS]: what is multiplied at a time lies together.
static void pack(const float *x, std::int64_t rows, std::int64_t k, std::uint8_t *packed, std::int64_t panel, std::int64_t panels) {
    float *to = reinterpret_cast<float *>(packed);
    const std::int64_t slice = slice_of(k);
    for (std::int64_t begin = 0; begin < k; begin += slice) {
        const std::int64_t some = k - begin < slice ? k - begin : slice;
        pack_rows<ROWS>(x + begin, k, int(rows), some, to + (begin * panels + some * panel) * ROWS);
    }
}

// A panel's 16-bit weights as floats, [k][PANEL]; `k` is even or the panel's end.
static void widen(Form form, const std::uint8_t *panel, std::int64_t k, float *out) {
    for (std::int64_t pair = 0; pair < (k + 1) / 2; ++pair) {
        QM_UNROLL
        for (int j = 0; j < PANEL; j += W) {
            I both;
            std::memcpy(&both, panel + pair * PANEL * 4 + j * 4, sizeof both);
            const I even = both & 0xffff, odd = (both >> 16) & 0xffff;
            store(out + 2 * pair * PANEL + j, form == Form::f16 ? from_half(even) : from_bits(even << 16));
            store(out + (2 * pair + 1) * PANEL + j, form == Form::f16 ? from_half(odd) : from_bits(odd << 16));
        }
    }
}

// Asks for the bytes that are multiplied next: its share, the part-th of `parts`, so that all are there in time.
QM_INLINE void prefetch_share(const std::uint8_t *from, std::int64_t bytes, std::int64_t part, std::int64_t parts) {
    const std::int64_t lines = (bytes + 63) / 64;
    for (std::int64_t line = lines * part / parts; line < lines * (part + 1) / parts; ++line) __builtin_prefetch(from + line * 64, 0, 2);
}

static void multiply(const Multiplication &of, std::int64_t first, std::int64_t last) {
    alignas(4096) float wide[MOST * PANEL];
    const std::int64_t slice = slice_of(of.k);
    const std::int64_t bytes = panel_bytes(of.form, of.k), tiles = (of.m + ROWS - 1) / ROWS;
    const std::int64_t line = PANEL * (of.form == Form::f32 ? 4 : 2);  // bytes a k
    for (std::int64_t begin = 0; begin < of.k || begin == 0; begin += slice) {
        const std::int64_t k = of.k - begin < slice ? of.k - begin : slice, after = of.k - begin - k;
        const float *x = reinterpret_cast<const float *>(of.x) + begin * tiles * ROWS;
        for (std::int64_t panel = first; panel < last; ++panel) {
            const std::uint8_t *weights = of.weights + panel * bytes + begin * line;
            const std::uint8_t *next = panel + 1 < last ? weights + bytes : of.weights + first * bytes + (begin + k) * line;
            const std::int64_t next_bytes = (panel + 1 < last ? k : after < slice ? after : slice) * line;
            const float *w = of.form == Form::f32 ? reinterpret_cast<const float *>(weights) : wide;
            const int valid = int(of.n - panel * PANEL < PANEL ? of.n - panel * PANEL : PANEL);
            for (std::int64_t tile = 0; tile < tiles; ++tile) {
                const std::int64_t row = tile * ROWS;
                const int rows = int(of.m - row < ROWS ? of.m - row : ROWS);
                float *out = of.out + row * of.n + panel * PANEL;
                prefetch_share(next, next_bytes, tile, tiles);
                if (tile == 0 && w == wide) widen(of.form, weights, k, wide);
                multiply_panel(x + row * k, rows, w, k, out, of.n, valid, begin == 0);
            }
        }
    }
}

extern const Product f32_product;
const Product f32_product = {ROWS, 504 / ROWS * ROWS + ROWS, false, packed_bytes, pack, multiply};

}  // namespace quantmill::QM_LEVEL
