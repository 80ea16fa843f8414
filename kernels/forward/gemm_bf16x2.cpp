// The bf16x2 arithmetic on machines without tiles: TDPBF16PS by ordinary fma. Of every 32 columns of k the even ones are one chain
// from zero and the odd ones another; their sum is added to the accumulator. Each block of 32 is done for high x times high w, then low
// x times high w, then, where weights have a low part, high x times low w. The thread flushes denormals while this runs.
#include "forward/gemm.h"
#include "forward/rows_side_by_side.h"
#include "forward/split.h"

namespace quantmill::QM_LEVEL {

#if defined(__AVX512F__)
constexpr int ROWS = 6, VECTORS = 2;
#elif defined(__AVX2__)
constexpr int ROWS = 3, VECTORS = 2;
#elif defined(__aarch64__)
constexpr int ROWS = 6, VECTORS = 2;
#else
constexpr int ROWS = 3, VECTORS = 2;
#endif
constexpr int TILE = VECTORS * W;
constexpr int SLICE = 128;  // of k: both parts of a slice of a panel stay in the first cache while all rows go by

QM_INLINE V hardware(V a, V b, V c) { return fma(a, b, c); }
using Fma = V (*)(V, V, V);

// sums[M][PANEL] += the product of one part of x, [SPLIT_K][ROWS], and one of w, [SPLIT_K][PANEL], TILE columns wide.
template <int M, Fma FMA>
QM_INLINE void block(const float *__restrict x, const float *__restrict w, float *__restrict sums) {
    V even[M][VECTORS], odd[M][VECTORS];
    QM_UNROLL
    for (int i = 0; i < M; ++i) {
        QM_UNROLL
        for (int j = 0; j < VECTORS; ++j) even[i][j] = odd[i][j] = V{};
    }
    QM_ROLLED
    for (int pair = 0; pair < SPLIT_K / 2; ++pair) {
        V first[VECTORS], second[VECTORS];
        QM_UNROLL
        for (int j = 0; j < VECTORS; ++j) {
            first[j] = load(w + 2 * pair * PANEL + j * W);
            second[j] = load(w + (2 * pair + 1) * PANEL + j * W);
        }
        QM_UNROLL
        for (int i = 0; i < M; ++i) {
            const V a = broadcast(x[2 * pair * ROWS + i]), b = broadcast(x[(2 * pair + 1) * ROWS + i]);
            QM_UNROLL
            for (int j = 0; j < VECTORS; ++j) {
                even[i][j] = FMA(a, first[j], even[i][j]);
                odd[i][j] = FMA(b, second[j], odd[i][j]);
            }
        }
    }
    QM_UNROLL
    for (int i = 0; i < M; ++i) {
        QM_UNROLL
        for (int j = 0; j < VECTORS; ++j) {
            float *at = sums + i * PANEL + j * W;
            store(at, load(at) + (even[i][j] + odd[i][j]));
        }
    }
}

// All blocks of a slice: x is [block][2][SPLIT_K][ROWS], w is [block][parts][SPLIT_K][PANEL].
template <int M, Fma FMA>
QM_OUTLINE void blocks(const float *x, const float *w, std::int64_t count, int parts, float *sums) {
    for (; count > 0; --count) {
        for (int column = 0; column < PANEL; column += TILE) {
            block<M, FMA>(x, w + column, sums + column);
            block<M, FMA>(x + SPLIT_K * ROWS, w + column, sums + column);
            if (parts == 2) block<M, FMA>(x, w + SPLIT_K * PANEL + column, sums + column);
        }
        x += 2 * SPLIT_K * ROWS;
        w += parts * SPLIT_K * PANEL;
    }
}

using Blocks = void (*)(const float *, const float *, std::int64_t, int, float *);

// By the number of rows, 1 to ROWS.
template <Fma FMA>
struct Choice {
    static constexpr Blocks of[] = {nullptr, blocks<1, FMA>, blocks<2, FMA>, blocks<3, FMA>,
#if defined(__AVX512F__) || defined(__aarch64__)
                                    blocks<4, FMA>, blocks<5, FMA>, blocks<6, FMA>,
#endif
    };
};

#if defined(__aarch64__)
// Arm flushes what is too small before rounding, x86 after: they differ where rounding reaches the least normal number. Arm's flag
// says that something was flushed, which is rare; then the slice is done again in software that knows the difference.
static std::uint64_t take_flags() {
    std::uint64_t flags;
    __asm__ volatile("mrs %0, fpsr" : "=r"(flags)::"memory");
    return flags;
}
static void put_flags(std::uint64_t flags) { __asm__ volatile("msr fpsr, %0" ::"r"(flags) : "memory"); }
constexpr std::uint64_t UNDERFLOW_FLAG = 8;

static void run(int rows, const float *x, const float *w, std::int64_t count, int parts, float *sums) {
    float before[ROWS * PANEL];
    std::memcpy(before, sums, sizeof before);
    const std::uint64_t flags = take_flags();
    put_flags(flags & ~UNDERFLOW_FLAG);
    Choice<hardware>::of[rows](x, w, count, parts, sums);
    const bool flushed = take_flags() & UNDERFLOW_FLAG;
    put_flags(flags);
    if (!flushed) return;
    std::memcpy(sums, before, sizeof before);
    Choice<software_fma>::of[rows](x, w, count, parts, sums);
}
#else
static void run(int rows, const float *x, const float *w, std::int64_t count, int parts, float *sums) {
    Choice<hardware>::of[rows](x, w, count, parts, sums);
}
#endif

static std::int64_t packed_bytes(std::int64_t k) { return padded(k) * 2 * ROWS * 4; }

// [slice][panel][block of SPLIT_K][2][SPLIT_K][ROWS] floats, each with at most eight significant bits; columns that are not there are
// zeros.
static void pack(const float *x, std::int64_t rows, std::int64_t k, std::uint8_t *packed, std::int64_t panel, std::int64_t panels) {
    const std::int64_t whole = padded(k);
    for (std::int64_t j = 0; j < whole; j += SPLIT_K) {
        const std::int64_t begin = j / SLICE * SLICE, slice = whole - begin < SLICE ? whole - begin : SLICE;
        float *to = reinterpret_cast<float *>(packed) + (begin * panels + slice * panel + j - begin) * 2 * ROWS;
        float high[ROWS * SPLIT_K], low[ROWS * SPLIT_K];
        for (int i = 0; i < rows; ++i) {
            for (int lane = 0; lane < SPLIT_K; lane += W) {
                const Parts parts = split_parts(load_some(x + i * k + j + lane, k - j - lane, 0.f));
                store(high + i * SPLIT_K + lane, from_bits((I)(parts.high << 16)));
                store(low + i * SPLIT_K + lane, from_bits((I)(parts.low << 16)));
            }
        }
        pack_rows<ROWS>(high, SPLIT_K, int(rows), SPLIT_K, to);
        pack_rows<ROWS>(low, SPLIT_K, int(rows), SPLIT_K, to + SPLIT_K * ROWS);
    }
}

static void multiply(const Multiplication &of, std::int64_t first, std::int64_t last) {
    const int parts = of.form == Form::split ? 2 : 1;
    alignas(64) float slice[2 * SLICE * PANEL];
    alignas(64) float sums[ROWS * PANEL];
    const std::int64_t bytes = panel_bytes(of.form, of.k), whole = padded(of.k);
    const std::int64_t panels = (of.m + ROWS - 1) / ROWS;
    for (std::int64_t begin = 0; begin < whole || begin == 0; begin += SLICE) {
        const std::int64_t k = whole - begin < SLICE ? whole - begin : SLICE;
        for (std::int64_t panel = first; panel < last; ++panel) {
            const std::uint8_t *weights = of.weights + panel * bytes + begin * PANEL * 2 * parts;
            for (std::int64_t pair = 0; pair < k / 2 * parts; ++pair) {
                for (int j = 0; j < PANEL; j += W) {
                    I both;
                    std::memcpy(&both, weights + (pair * PANEL + j) * 4, sizeof both);
                    store(slice + 2 * pair * PANEL + j, from_bits(both << 16));
                    store(slice + (2 * pair + 1) * PANEL + j, from_bits(both & -65536));
                }
            }
            const std::int64_t left = of.n - panel * PANEL;
            const std::size_t row_bytes = sizeof(float) * std::size_t(left < PANEL ? left : PANEL);
            for (std::int64_t row = 0; row < of.m; row += ROWS) {
                const int rows = int(of.m - row < ROWS ? of.m - row : ROWS);
                const float *x = reinterpret_cast<const float *>(of.x) + (begin * panels * ROWS + row * k) * 2;
                float *out = of.out + row * of.n + panel * PANEL;
                for (int i = 0; i < ROWS && row + ROWS + i < of.m; ++i) {
                    __builtin_prefetch(out + (ROWS + i) * of.n, 1);
                    __builtin_prefetch(out + (ROWS + i) * of.n + (left < PANEL ? left : PANEL) - 1, 1);
                }
                std::memset(sums, 0, sizeof sums);
                for (int i = 0; i < rows && begin; ++i) std::memcpy(sums + i * PANEL, out + i * of.n, row_bytes);
                run(rows, x, slice, k / SPLIT_K, parts, sums);
                for (int i = 0; i < rows; ++i) std::memcpy(out + i * of.n, sums + i * PANEL, row_bytes);
            }
        }
    }
}

extern const Product bf16x2_product;
const Product bf16x2_product = {ROWS, 504 / ROWS * ROWS + ROWS, true, packed_bytes, pack, multiply};

}  // namespace quantmill::QM_LEVEL
