// bf16x2 on the processor's own tiles (AMX-BF16), which flush denormals and round to nearest whatever the thread's mode is.
#include <immintrin.h>

#include "forward/gemm_tiles.h"

namespace quantmill::QM_LEVEL {

namespace {

// The compiler does not know that these instructions read and write memory: `order` keeps what it moves on its side.
QM_INLINE void order() { __asm__ volatile("" ::: "memory"); }

// An instruction names its tiles in itself, so each number is a case.
#define QM_EACH_TILE(CASE) CASE(0) CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7)

struct Hardware {
    Hardware() {
        struct alignas(64) {
            std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
            std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
            std::uint8_t rows[16] = {TILE, TILE, TILE, TILE, TILE, TILE, TILE, TILE};
        } shape;
        static_assert(sizeof shape == 64, "as the processor reads it");
        order();
        _tile_loadconfig(&shape);
    }
    ~Hardware() { _tile_release(); }

    template <int T>
    __attribute__((always_inline)) void load(const std::uint8_t *from, std::int64_t stride) {
        order();
#define QM_CASE(N) \
    if constexpr (T == N) _tile_loadd(N, from, stride);
        QM_EACH_TILE(QM_CASE)
#undef QM_CASE
    }
    template <int T>
    __attribute__((always_inline)) void store(std::uint8_t *to, std::int64_t stride) {
#define QM_CASE(N) \
    if constexpr (T == N) _tile_stored(N, to, stride);
        QM_EACH_TILE(QM_CASE)
#undef QM_CASE
        order();
    }
    template <int T>
    __attribute__((always_inline)) void zero() {
#define QM_CASE(N) \
    if constexpr (T == N) _tile_zero(N);
        QM_EACH_TILE(QM_CASE)
#undef QM_CASE
    }
    template <int OUT, int X, int W_>
    __attribute__((always_inline)) void dot() {
        static_assert(OUT < 4 && (X == 4 || X == 5) && (W_ == 6 || W_ == 7), "the tiles that are summed, and their factors");
#define QM_CASE(N)                                                   \
    if constexpr (OUT == N && X == 4 && W_ == 6) _tile_dpbf16ps(N, 4, 6); \
    if constexpr (OUT == N && X == 4 && W_ == 7) _tile_dpbf16ps(N, 4, 7); \
    if constexpr (OUT == N && X == 5 && W_ == 6) _tile_dpbf16ps(N, 5, 6); \
    if constexpr (OUT == N && X == 5 && W_ == 7) _tile_dpbf16ps(N, 5, 7);
        QM_CASE(0) QM_CASE(1) QM_CASE(2) QM_CASE(3)
#undef QM_CASE
    }
};

}  // namespace

extern const Product tiles_product;
const Product tiles_product = {ROWS, 512, true, packed_bytes, pack, multiply<Hardware>};

}  // namespace quantmill::QM_LEVEL
