// The f32 arithmetic: out[i][j] is one chain of fma, fma(x[i][k], w[j][k], sum), from zero in the order of k. Tiles, panels and slices
// of k share the work so that it stays in the caches, and none of them reorders a chain: what a slice of k leaves in out is exact.
#include "chains.h"

namespace quantmill::QM_LEVEL {

constexpr int SLICE = 256;  // of k: a slice of a panel stays in the first cache while all rows go by

static std::int64_t packed_bytes(std::int64_t k) { return k * ROWS * 4; }

static void pack(const float *x, std::int64_t rows, std::int64_t k, std::uint8_t *packed) {
    pack_rows(x, k, int(rows), k, reinterpret_cast<float *>(packed));
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

static void multiply(const Multiplication &of, std::int64_t first, std::int64_t last) {
    alignas(64) float slice[SLICE * PANEL];
    const std::int64_t bytes = panel_bytes(of.form, of.k);
    for (std::int64_t begin = 0; begin < of.k || begin == 0; begin += SLICE) {
        const std::int64_t k = of.k - begin < SLICE ? of.k - begin : SLICE;
        for (std::int64_t panel = first; panel < last; ++panel) {
            const std::uint8_t *weights = of.weights + panel * bytes;
            const float *w = reinterpret_cast<const float *>(weights) + begin * PANEL;
            if (of.form != Form::f32) {
                widen(of.form, weights + begin * PANEL * 2, k, slice);
                w = slice;
            }
            const std::int64_t left = of.n - panel * PANEL;
            for (std::int64_t row = 0; row < of.m; row += ROWS) {
                const float *x = reinterpret_cast<const float *>(of.x) + row * of.k + begin * ROWS;
                multiply_panel(x, int(of.m - row < ROWS ? of.m - row : ROWS), w, k, of.out + row * of.n + panel * PANEL, of.n,
                               int(left < PANEL ? left : PANEL), begin == 0);
            }
        }
    }
}

extern const Product f32_product;
const Product f32_product = {ROWS, 504 / ROWS * ROWS + ROWS, false, packed_bytes, pack, multiply};

}  // namespace quantmill::QM_LEVEL
