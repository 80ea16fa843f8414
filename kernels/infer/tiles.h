// The product of one panel and one tile of tokens on the processor's tiles of bytes (AMX-INT8). Part of multiply.cpp.
//
// Sums of a group are the same integers as on the other levels, and what is done with them is the same, so the results are too.
#pragma once

// The compiler does not know that these instructions read and write memory: `order` keeps what it moves on its side.
QM_INLINE void order() { __asm__ volatile("" ::: "memory"); }

// Tiles 0 and 1 are sums [token][row], 2 and 3 a plane's activations [token][SIZE bytes], 4 weights [four columns][row][4].
struct Tiles {
    explicit Tiles(int size) {
        struct alignas(64) {
            std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
            std::uint16_t row_bytes[16] = {};
            std::uint8_t rows[16] = {};
        } shape;
        static_assert(sizeof shape == 64, "as the processor reads it");
        for (int i = 0; i < 4; ++i) shape.rows[i] = TOKENS, shape.row_bytes[i] = std::uint16_t(i < 2 ? 4 * ROWS : size);
        shape.rows[4] = std::uint8_t(size / 4), shape.row_bytes[4] = 4 * ROWS;
        order();
        _tile_loadconfig(&shape);
    }
    ~Tiles() { _tile_release(); }
    Tiles(const Tiles &) = delete;
    Tiles &operator=(const Tiles &) = delete;
};

template <int N, int SIZE, bool OFFSET, int PLANES>
static void tile(const Unpacked *panels, int, const Activations &a, std::int64_t index, V (&result)[2][TOKENS]) {
    static_assert(N == 1 && W == ROWS, "a panel's rows fill a vector");
    constexpr int parts = GROUP / SIZE;
    const std::int64_t groups = a.groups();
    const Unpacked &panel = panels[0];
    const std::uint8_t *bytes = a.bytes + index * groups * PLANES * GROUP * TOKENS;
    const float *scales = a.scales + index * groups * TOKENS, *sums = a.sums + 3 * index * groups * TOKENS;
    alignas(64) std::int32_t products[PLANES][TOKENS][ROWS];
    V total[TOKENS] = {};
    for (std::int64_t g = 0; g < groups; ++g) {
        for (int half = 0; half < parts; ++half) {
            const std::int64_t part = g * parts + half;
            const std::uint8_t *x = bytes + half * SIZE;
            order();
            _tile_loadd(4, panel.values + part * SIZE * ROWS, 4 * ROWS);
            _tile_zero(0);
            _tile_loadd(2, x, GROUP);
            _tile_dpbssd(0, 2, 4);
            _tile_stored(0, products[0], 4 * ROWS);
            if constexpr (PLANES == 2) {
                _tile_zero(1);
                _tile_loadd(3, x + GROUP * TOKENS, GROUP);
                _tile_dpbssd(1, 3, 4);
                _tile_stored(1, products[1], 4 * ROWS);
            }
            order();
            const V scale = load<V>(panel.scales + part * ROWS);
            QM_UNROLL
            for (int t = 0; t < TOKENS; ++t) {
                I sum = load<I>(products[0][t]);
                if constexpr (PLANES == 2) sum = (sum << 8) + load<I>(products[1][t]);
                total[t] = fma(to_float(sum) * scales[t], scale, total[t]);
            }
            if constexpr (OFFSET) {
                const V offset = load<V>(panel.offsets + part * ROWS);
                const float *of = sums + (parts == 1 ? 2 : half) * TOKENS;
                QM_UNROLL
                for (int t = 0; t < TOKENS; ++t) total[t] = fma(offset, splat(of[t]), total[t]);
            }
        }
        bytes += PLANES * GROUP * TOKENS, scales += TOKENS, sums += 3 * TOKENS;
    }
    for (int t = 0; t < TOKENS; ++t) result[0][t] = total[t];
}
