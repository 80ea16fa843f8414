// IQ3_XXS: 256 weights as 64 bytes of grid points, and per 32 weights one word of four times seven signs and a 4-bit scale. The
// eighth sign of every eight weights follows from the parity of the other seven.
#include "quantize/iq/iq3.h"

namespace quantmill::QM_LEVEL {

constexpr int SIZE = 98;

// Makes the number of negative weights even by flipping, of each eight with an odd number, the weight that matters least.
// Returns the signs as they are stored, seven bits each.
QM_INLINE std::uint32_t even_signs(std::uint32_t signs, const float *x, Group &group) {
    std::uint32_t stored = 0;
    for (int k = 0; k < 4; ++k) {
        unsigned eight = signs >> (8 * k) & 255;
        if (__builtin_parity(eight)) {
            int place = 8 * k;
            float least = LARGEST_FLOAT;
            float cost[8];
            for (int i = 0; i < 8; ++i) cost[i] = group.weight[8 * k + i] * x[8 * k + i] * x[8 * k + i];
            least = cost[0];
            for (int i = 1; i < 8; ++i) {
                if (cost[i] < least) {
                    least = cost[i];
                    place = 8 * k + i;
                }
            }
            group.x[place] = -group.x[place];
            eight ^= 1u << (place - 8 * k);
        }
        stored |= std::uint32_t(eight & 127) << (7 * k);
    }
    return stored;
}

static const Lists &lists_iq3_xxs() {
    static const Lists lists(grid_iq3_xxs());
    return lists;
}

static void quantize_iq3_xxs(const float *src, std::uint8_t *dst, std::int64_t rows, std::int64_t cols, const float *importance,
                             Changes arithmetic) {
    const Grid &grid = grid_iq3_xxs();
    const Lists &lists = lists_iq3_xxs();
    Choice choice = {};
    std::int64_t row = -1;
    for_supers<SIZE>(src, dst, rows, cols, importance, [&](const Super &super) {
        // Not preset, ggml begins each row with whatever the stack holds; this is what makes no difference to its bytes where they
        // were observed.
        if (super.row != row) choice = {};
        row = super.row;
        std::uint8_t points[SUPER / 4] = {};
        std::uint32_t words[GROUPS] = {};
        float scales[GROUPS] = {}, widest = 0;
        for (int g = 0; g < GROUPS; ++g) {
            Group group;
            const std::uint32_t signs = prepare(super, GROUP * g, group);
            words[g] = even_signs(signs, super.x + GROUP * g, group);
            group.largest = largest_of(group.x);
            // Where no candidate wins, what was found for the group before is taken over, or level 0 once that is cleared.
            const bool empty = group.largest < 1e-8f;
            if (arithmetic.has(Change::cleared) || empty) std::memset(choice.points, 0, sizeof choice.points);
            if (empty) {
                words[g] = 0;
                continue;
            }
            if (arithmetic.has(Change::on_grid)) choice.on_grid = 0xff;
            choice.scale = group.largest / 15;
            search<31>(lists, group, choice);
            if (choice.on_grid != 0xff && choice.scale > 0) refine(lists, group, ~choice.on_grid & 0xff, choice);
            if (choice.scale < 0) {
                choice.scale = -choice.scale;
                words[g] ^= 0x0fffffff;
            }
            for (int k = 0; k < QUADS; ++k) points[QUADS * g + k] = std::uint8_t(grid.map[Lists::code(choice.points[k])]);
            scales[g] = choice.scale;
            widest = widest > choice.scale ? widest : choice.scale;
        }
        if (widest == 0) {
            std::memset(super.to, 0, SIZE);
            return;
        }
        const float d = widest / 31, inverse = 1 / d;
        store_half(super.to, d * 1.0125f);
        for (int g = 0; g < GROUPS; ++g) words[g] |= multiple_of(scales[g], inverse) << 28;
        std::memcpy(super.to + 2, points, sizeof points);
        std::memcpy(super.to + 2 + sizeof points, words, sizeof words);
    });
}

static void dequantize_iq3_xxs(const std::uint8_t *src, float *dst, std::int64_t count) {
    const std::int8_t *points = grid_iq3_xxs().points;
    for (; count > 0; count -= SUPER, src += SIZE, dst += SUPER) {
        const float d = half_value(src);
        for (int g = 0; g < GROUPS; ++g) {
            std::uint32_t word;
            std::memcpy(&word, src + 2 + SUPER / 4 + 4 * g, 4);
            const float scale = d * (0.5f + float(word >> 28)) * 0.5f;
            for (int j = 0; j < GROUP; ++j) {
                const unsigned seven = word >> (7 * (j / 8)) & 127;
                const unsigned eight = seven | unsigned(__builtin_parity(seven)) << 7;
                const float magnitude = scale * float(points[4 * src[2 + QUADS * g + j / 4] + j % 4]);
                dst[GROUP * g + j] = magnitude * (eight >> (j % 8) & 1 ? -1.f : 1.f);
            }
        }
    }
}

QM_FAMILY(iq3_xxs, {"IQ3_XXS", SUPER, SIZE, quantize_iq3_xxs, dequantize_iq3_xxs, false})

}  // namespace quantmill::QM_LEVEL
