// The tile instructions in software, by Intel's manual: what a machine without them tests the code around them with, and what says
// that the other levels' fma is the same arithmetic. Slow.
#include "forward/fma.h"
#include "forward/gemm_tiles.h"

namespace quantmill::QM_LEVEL {

namespace {

struct Model {
    std::uint32_t tile[8][TILE][16] = {};

    template <int T>
    void load(const std::uint8_t *from, std::int64_t stride) {
        for (int i = 0; i < TILE; ++i) std::memcpy(tile[T][i], from + i * stride, 64);
    }
    template <int T>
    void store(std::uint8_t *to, std::int64_t stride) {
        for (int i = 0; i < TILE; ++i) std::memcpy(to + i * stride, tile[T][i], 64);
    }
    template <int T>
    void zero() {
        std::memset(tile[T], 0, sizeof tile[T]);
    }

    // TDPBF16PS: a row of x has 16 pairs, row p of w the p-th pair of 16 columns. First elements are summed apart from second ones.
    template <int OUT, int X, int W_>
    void dot() {
        for (int row = 0; row < TILE; ++row) {
            for (int column = 0; column < 16; column += W) {
                V even = {}, odd = {};
                for (int pair = 0; pair < 16; ++pair) {
                    I words;
                    std::memcpy(&words, &tile[W_][pair][column], sizeof words);
                    const I two = splat_int(std::int32_t(tile[X][row][pair]));
                    even = software_fma(from_bits(two << 16), from_bits(words << 16), even);
                    odd = software_fma(from_bits(two & -65536), from_bits(words & -65536), odd);
                }
                V sum;
                std::memcpy(&sum, &tile[OUT][row][column], sizeof sum);
                sum += even + odd;
                std::memcpy(&tile[OUT][row][column], &sum, sizeof sum);
            }
        }
    }
};

}  // namespace

extern const Product tiles_product;
const Product tiles_product = {ROWS, 512, true, packed_bytes, pack, multiply<Model>};

}  // namespace quantmill::QM_LEVEL
