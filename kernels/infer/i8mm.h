// The product of one vector of rows and one tile of tokens by smmla: two rows of eight columns times two tokens of eight. Part
// of multiply.cpp.
//
// Sums of a group are the same integers as on the other levels, and what is done with them is the same, so the results are too.
#pragma once

template <int N, int SIZE, bool OFFSET, int PLANES>
static void tile(const Unpacked *panels, int row, const Activations &a, std::int64_t index, V (&result)[2][TOKENS]) {
    static_assert(N == 1 && W == 4 && TOKENS % 2 == 0, "two pairs of rows");
    constexpr int parts = GROUP / SIZE, steps = SIZE / 4, pairs = TOKENS / 2;
    const std::int64_t groups = a.groups();
    const Unpacked &panel = panels[0];
    const std::uint8_t *bytes = a.bytes + index * groups * PLANES * GROUP * TOKENS;
    const float *scales = a.scales + index * groups * TOKENS, *sums = a.sums + 3 * index * groups * TOKENS;
    V total[TOKENS] = {};
    for (std::int64_t g = 0; g < groups; ++g) {
        for (int half = 0; half < parts; ++half) {
            const std::int64_t part = g * parts + half;
            const std::int8_t *values = panel.values + (part * steps * ROWS + row) * 4;
            int32x4_t of_two[2][pairs];  // [first row, second row][first token, second token]
            QM_UNROLL
            for (int p = 0; p < pairs; ++p) of_two[0][p] = of_two[1][p] = vdupq_n_s32(0);
            QM_UNROLL
            for (int plane = 0; plane < PLANES; ++plane) {
                const std::uint8_t *x = bytes + (plane * 8 + half * steps) * 4 * TOKENS;
                QM_UNROLL
                for (int p = 0; plane && p < pairs; ++p) {
                    of_two[0][p] = vshlq_n_s32(of_two[0][p], 8);
                    of_two[1][p] = vshlq_n_s32(of_two[1][p], 8);
                }
                QM_UNROLL
                for (int step = 0; step < steps; step += 2) {
                    const int8x16_t first = vld1q_s8(values + step * ROWS * 4);
                    const int8x16_t second = vld1q_s8(values + (step + 1) * ROWS * 4);
                    QM_UNROLL
                    for (int p = 0; p < pairs; ++p) {
                        const int8x16_t two = vreinterpretq_s8_u8(vld1q_u8(x + (step / 2 * TOKENS + 2 * p) * 8));
                        of_two[0][p] = vmmlaq_s32(of_two[0][p], first, two);
                        of_two[1][p] = vmmlaq_s32(of_two[1][p], second, two);
                    }
                }
            }
            const V scale = load<V>(panel.scales + part * ROWS + row);
            const V offset = OFFSET ? load<V>(panel.offsets + part * ROWS + row) : V{};
            const float *of = sums + (parts == 1 ? 2 : half) * TOKENS;
            QM_UNROLL
            for (int t = 0; t < TOKENS; ++t) {
                const int32x4_t low = of_two[0][t / 2], high = of_two[1][t / 2];
                const I sum = (I)(t % 2 ? vuzp2q_s32(low, high) : vuzp1q_s32(low, high));
                total[t] = fma(to_float(sum) * scales[t], scale, total[t]);
                if constexpr (OFFSET) total[t] = fma(offset, splat(of[t]), total[t]);
            }
        }
        bytes += PLANES * GROUP * TOKENS, scales += TOKENS, sums += 3 * TOKENS;
    }
    for (int t = 0; t < TOKENS; ++t) result[0][t] = total[t];
}
