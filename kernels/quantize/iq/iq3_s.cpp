// IQ3_S: 256 weights as 64 grid points of nine bits (the ninth apart), all signs, and eight 4-bit scales.
#include "quantize/iq/iq3.h"

namespace quantmill::QM_LEVEL {

constexpr int SIZE = 110, POINTS = 2, HIGH = 66, SIGNS = 74, SCALES = 106;

static const Lists &lists_iq3_s() {
    static const Lists lists(grid_iq3_s());
    return lists;
}

static void quantize_iq3_s(const float *src, std::uint8_t *dst, std::int64_t rows, std::int64_t cols, const float *importance,
                           Changes arithmetic) {
    const Grid &grid = grid_iq3_s();
    const Lists &lists = lists_iq3_s();
    Choice choice = {};
    for_supers<SIZE>(src, dst, rows, cols, importance, [&](const Super &super) {
        std::memset(super.to, 0, SIZE);
        std::uint8_t *points = super.to + POINTS, *signs = super.to + SIGNS;
        float scales[GROUPS] = {}, widest = 0;
        for (int g = 0; g < GROUPS; ++g) {
            Group group;
            std::uint32_t word = prepare(super, GROUP * g, group);
            group.largest = largest_of(group.x);
            // The reference leaves out a group of zeros, so that points and signs (but not the points' ninth bits) move up.
            if (group.largest == 0) continue;
            if (arithmetic.has(Change::cleared)) std::memset(choice.points, 0, sizeof choice.points);
            choice.on_grid = 0;
            choice.scale = group.largest / 15;
            search<19>(lists, group, choice);
            if (choice.on_grid != 0xff && choice.scale > 0) refine(lists, group, 0xff, choice);
            if (choice.scale < 0) {
                choice.scale = -choice.scale;
                word = ~word;
            }
            for (int k = 0; k < QUADS; ++k) {
                const int index = grid.map[Lists::code(choice.points[k])];
                points[k] = std::uint8_t(index);
                super.to[HIGH + g] |= std::uint8_t(index >> 8 << k);
            }
            std::memcpy(signs, &word, 4);
            points += QUADS;
            signs += 4;
            scales[g] = choice.scale;
            widest = widest > choice.scale ? widest : choice.scale;
        }
        if (widest == 0) return;
        const float d = widest / 31, inverse = 1 / d;
        store_half(super.to, d * 1.033f);
        for (int g = 0; g < GROUPS; g += 2) {
            super.to[SCALES + g / 2] =
                std::uint8_t(multiple_of(scales[g], inverse) | multiple_of(scales[g + 1], inverse) << 4);
        }
    });
}

static void dequantize_iq3_s(const std::uint8_t *src, float *dst, std::int64_t count) {
    const std::int8_t *points = grid_iq3_s().points;
    for (; count > 0; count -= SUPER, src += SIZE, dst += SUPER) {
        const float d = half_value(src);
        for (int g = 0; g < GROUPS; ++g) {
            const float scale = d * float(1 + 2 * (src[SCALES + g / 2] >> (4 * (g % 2)) & 15));
            for (int j = 0; j < GROUP; ++j) {
                const int k = j / 4, index = src[POINTS + QUADS * g + k] | (src[HIGH + g] >> k & 1) << 8;
                const float magnitude = scale * float(points[4 * index + j % 4]);
                dst[GROUP * g + j] = magnitude * (src[SIGNS + 4 * g + j / 8] >> (j % 8) & 1 ? -1.f : 1.f);
            }
        }
    }
}

QM_FAMILY(iq3_s, {"IQ3_S", SUPER, SIZE, quantize_iq3_s, dequantize_iq3_s, false})

}  // namespace quantmill::QM_LEVEL
