// bf16x2 by VDPBF16PS (AVX512_BF16), two steps of a chain in one instruction: of each pair of bfloat16 it does the second element's fma, then
// the first's, with denormals flushed and rounding to nearest whatever the thread's mode is (Intel's manual, volume 2). A chain of the
// arithmetic takes every other column, so a pair is two of those, the earlier one second.
#include "forward/fma.h"
#include "forward/gemm.h"
#include "forward/split.h"

namespace quantmill::QM_LEVEL {

constexpr int ROWS = 4, VECTORS = PANEL / W;  // even and odd chains, their sums, and weights: 28 registers
constexpr int STEPS = SPLIT_K / 4;            // pairs of a chain in a block
constexpr int SLICE = 256;                    // of k: both parts of a slice of a panel stay in the first cache while all rows go by
static_assert(VECTORS == 2, "a panel is two registers wide");

QM_INLINE V dot(V sum, I x, I w) { return (V)_mm512_dpbf16_ps((__m512)sum, (__m512bh)x, (__m512bh)w); }

// Of four neighbours in k, two words of two, what the even chain takes and what the odd one does.
template <class Word>
QM_INLINE Word even_pair(Word first, Word second) {
    return first << 16 | (second & 0xffff);
}
template <class Word>
QM_INLINE Word odd_pair(Word first, Word second) {
    return (first & 0xffff0000) | second >> 16;
}

static std::int64_t packed_bytes(std::int64_t k) { return padded(k) * 4 * ROWS; }

// [slice][panel][block of SPLIT_K][high, low][STEPS][even, odd][ROWS] pairs; columns that are not there are zeros.
static void pack(const float *x, std::int64_t rows, std::int64_t k, std::uint8_t *packed, std::int64_t panel, std::int64_t panels) {
    const std::int64_t whole = padded(k);
    for (std::int64_t j = 0; j < whole; j += SPLIT_K) {
        const std::int64_t begin = j / SLICE * SLICE, slice = whole - begin < SLICE ? whole - begin : SLICE;
        std::uint32_t *to = reinterpret_cast<std::uint32_t *>(packed) + (begin * panels + slice * panel + j - begin) * ROWS;
        for (int i = 0; i < ROWS; ++i) {
            std::uint16_t parts[2][SPLIT_K] = {};
            for (int lane = 0; lane < SPLIT_K && i < rows; lane += W) {
                const Parts both = split_parts(load_some(x + i * k + j + lane, k - j - lane, 0.f));
                const H high = __builtin_convertvector(both.high, H), low = __builtin_convertvector(both.low, H);
                std::memcpy(parts[0] + lane, &high, sizeof high);
                std::memcpy(parts[1] + lane, &low, sizeof low);
            }
            for (int part = 0; part < 2; ++part) {
                std::uint32_t words[SPLIT_K / 2];
                std::memcpy(words, parts[part], sizeof words);
                for (int step = 0; step < STEPS; ++step) {
                    std::uint32_t *at = to + (part * STEPS + step) * 2 * ROWS + i;
                    at[0] = even_pair(words[2 * step], words[2 * step + 1]);
                    at[ROWS] = odd_pair(words[2 * step], words[2 * step + 1]);
                }
            }
        }
    }
}

// Blocks of a panel's words, [SPLIT_K / 2][PANEL], as [STEPS][even, odd][PANEL].
static void pair_weights(const std::uint8_t *panel, std::int64_t blocks, U *out) {
    for (std::int64_t step = 0; step < blocks * STEPS; ++step) {
        for (int j = 0; j < VECTORS; ++j) {
            U first, second;
            std::memcpy(&first, panel + (2 * step * PANEL + j * W) * 4, sizeof first);
            std::memcpy(&second, panel + ((2 * step + 1) * PANEL + j * W) * 4, sizeof second);
            out[2 * step * VECTORS + j] = even_pair(first, second);
            out[(2 * step + 1) * VECTORS + j] = odd_pair(first, second);
        }
    }
}

// sums += the product of one part of x and one of w, a block of each.
template <int M>
QM_INLINE void block(const std::uint32_t *x, const U *w, V (&sum)[M][VECTORS]) {
    V even[M][VECTORS], odd[M][VECTORS];
    QM_UNROLL
    for (int i = 0; i < M; ++i) {
        QM_UNROLL
        for (int j = 0; j < VECTORS; ++j) even[i][j] = odd[i][j] = V{};
    }
    QM_ROLLED
    for (int step = 0; step < STEPS; ++step, x += 2 * ROWS, w += 2 * VECTORS) {
        QM_UNROLL
        for (int i = 0; i < M; ++i) {
            const I first = splat_int(std::int32_t(x[i])), second = splat_int(std::int32_t(x[ROWS + i]));
            QM_UNROLL
            for (int j = 0; j < VECTORS; ++j) {
                even[i][j] = dot(even[i][j], first, (I)w[j]);
                odd[i][j] = dot(odd[i][j], second, (I)w[VECTORS + j]);
            }
        }
    }
    QM_UNROLL
    for (int i = 0; i < M; ++i) {
        QM_UNROLL
        for (int j = 0; j < VECTORS; ++j) sum[i][j] += even[i][j] + odd[i][j];
    }
}

// M rows times all blocks of a slice of one panel, `valid` columns of it.
template <int M>
QM_OUTLINE void blocks(const std::uint32_t *x, const U *w, std::int64_t count, int parts, float *out, std::int64_t stride, int valid,
                       bool begin) {
    constexpr int PART = 2 * STEPS;
    V sum[M][VECTORS];
    QM_UNROLL
    for (int i = 0; i < M; ++i) {
        QM_UNROLL
        for (int j = 0; j < VECTORS; ++j) sum[i][j] = begin ? V{} : load_some(out + i * stride + j * W, valid - j * W, 0.f);
    }
    for (; count > 0; --count, x += 2 * PART * ROWS, w += parts * PART * VECTORS) {
        block<M>(x, w, sum);
        block<M>(x + PART * ROWS, w, sum);
        if (parts == 2) block<M>(x, w + PART * VECTORS, sum);
    }
    QM_UNROLL
    for (int i = 0; i < M; ++i) {
        QM_UNROLL
        for (int j = 0; j < VECTORS; ++j) store_some(out + i * stride + j * W, valid - j * W, sum[i][j]);
    }
}

using Blocks = void (*)(const std::uint32_t *, const U *, std::int64_t, int, float *, std::int64_t, int, bool);
static constexpr Blocks blocks_of[] = {nullptr, blocks<1>, blocks<2>, blocks<3>, blocks<4>};
static_assert(sizeof blocks_of / sizeof *blocks_of == ROWS + 1, "a function for every number of rows");

static void multiply(const Multiplication &of, std::int64_t first, std::int64_t last) {
    const int parts = of.form == Form::split ? 2 : 1;
    U slice[SLICE * PANEL / W];
    const std::int64_t bytes = panel_bytes(of.form, of.k), whole = padded(of.k), tiles = (of.m + ROWS - 1) / ROWS;
    for (std::int64_t begin = 0; begin < whole || begin == 0; begin += SLICE) {
        const std::int64_t k = whole - begin < SLICE ? whole - begin : SLICE;
        for (std::int64_t panel = first; panel < last; ++panel) {
            pair_weights(of.weights + panel * bytes + begin * PANEL * 2 * parts, k / SPLIT_K * parts, slice);
            const std::int64_t left = of.n - panel * PANEL;
            for (std::int64_t tile = 0; tile < tiles; ++tile) {
                const std::int64_t row = tile * ROWS, rows = of.m - row < ROWS ? of.m - row : ROWS;
                const std::uint32_t *x = reinterpret_cast<const std::uint32_t *>(of.x) + (begin * tiles + k * tile) * ROWS;
                blocks_of[rows](x, slice, k / SPLIT_K, parts, of.out + row * of.n + panel * PANEL, of.n,
                                int(left < PANEL ? left : PANEL), begin == 0);
            }
        }
    }
}

extern const Product dot_product;
const Product dot_product = {ROWS, 512, true, packed_bytes, pack, multiply};

}  // namespace quantmill::QM_LEVEL
