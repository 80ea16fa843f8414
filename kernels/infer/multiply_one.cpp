// Weights times one token's activations, straight from the panels' codes: as fast as memory brings them.
//
// Same sums as in multiply(), in the same order: a token's results do not depend on how many are computed at once.
#include "infer/level.h"

namespace quantmill::QM_LEVEL {

// Weights are asked for so many bytes ahead, into the second cache, which waits for more lines at a time than the first: the
// processor's own guesses end at every page.
constexpr int AHEAD = 6144;

// Behind the end of the weights it is without effect.
QM_INLINE void fetch(const std::uint8_t *from, std::int64_t ahead) {
    __builtin_prefetch(reinterpret_cast<const void *>(reinterpret_cast<std::uintptr_t>(from) + std::uintptr_t(ahead)), 0, 2);
}

// What codes are to the product of bytes: values, biased to be unsigned where it wants that.
struct Table {
    std::int8_t values[16];
    std::uint8_t from_code;  // subtracted from a code that needs no table
    std::int32_t bias;       // of the weights in the product

    explicit Table(const Form &form) {
        for (int i = 0; i < 16; ++i) values[i] = std::int8_t(form.values ? form.values[i] ^ BIAS : 0);
        from_code = std::uint8_t(BIAS ? 0 : form.bias);
        bias = BIAS ? (form.values || form.bits == 8 ? 128 : form.bias) : 0;
    }
};

template <int BITS>
QM_INLINE I weights_of(const Table &table, const std::uint8_t *group, int step, int row) {
    const UB code = codes_of<BITS>(group, step, row);
    if constexpr (BITS <= 4) return (I)look_up(table.values, code);
    if constexpr (BITS == 8) return (I)(code ^ std::uint8_t(BIAS));
    return (I)(code - table.from_code);
}

QM_INLINE I product(I sum, I weights, I x) { return BIAS ? dot(sum, weights, x) : dot(sum, x, weights); }

template <int BITS, int SIZE, Scale KIND, bool OFFSET, int PLANES>
static void panel_times_one(const Form &form, std::int64_t cols, const std::uint8_t *panel, const Activations &a,
                            V (&result)[SPLITS]) {
    constexpr int parts = GROUP / SIZE, steps = SIZE / 4, group = ROWS * GROUP * BITS / 8;
    const Table table(form);
    const std::int64_t groups = cols / GROUP, head = head_bytes(form, cols), bytes = head + groups * group;
    const std::int64_t scales = groups ? head / groups : 0;  // bytes of a group
    const std::uint8_t *codes = panel + head, *x = a.bytes;
    V total[SPLITS] = {};
    for (std::int64_t g = 0; g < groups; ++g, codes += group, x += PLANES * GROUP) {
        // The codes, of the next panel when this one's end, and the scales of the next, which lie between.
        const std::int64_t ahead = AHEAD + (g < groups - AHEAD / group ? 0 : head);
        for (int line = 0; line < group; line += 64) fetch(codes, ahead + line);
        fetch(panel, bytes + g * scales);
        for (int split = 0; split < SPLITS; ++split) {
            QM_UNROLL
            for (int half = 0; half < parts; ++half) {
                const int which = parts == 1 ? 2 : half;
                I high = PLANES == 2 ? I{} : splat_int(-table.bias * a.counts[3 * g + which]);
                I low = splat_int(-table.bias * a.counts[3 * g + which]);
                QM_UNROLL
                for (int s = 0; s < steps; ++s) {
                    const int step = half * steps + s;
                    const I w = weights_of<BITS>(table, codes, step, split * W);
                    high = product(high, w, spread(x + 4 * step));
                    if (PLANES == 2) low = product(low, w, spread(x + GROUP + 4 * step));
                }
                const I sum = PLANES == 2 ? (high << 8) + low : high;
                V scale, offset = {};
                scales_of<KIND, OFFSET, SIZE>(panel, g * parts + half, split * W, scale, offset);
                total[split] = fma(to_float(sum) * a.scales[g], scale, total[split]);
                if constexpr (OFFSET) total[split] = fma(offset, splat(a.sums[3 * g + which]), total[split]);
            }
        }
    }
    for (int split = 0; split < SPLITS; ++split) result[split] = total[split];
}

static void panel_of_floats(const Form &form, std::int64_t cols, const std::uint8_t *panel, const Activations &a,
                            V (&result)[SPLITS]) {
    for (int split = 0; split < SPLITS; ++split) {
        V total = {};
        for (std::int64_t k = 0; k < cols; ++k) {
            const std::uint8_t *at = panel + (k * ROWS + split * W) * form.size;
            const V w = form.bits == 32 ? load<V>(at) : form.type[0] == 'B' ? from_brains(at) : from_halves(at);
            total = fma(w, splat(a.floats[k]), total);
        }
        result[split] = total;
    }
}

using OnePanel = void (*)(const Form &, std::int64_t, const std::uint8_t *, const Activations &, V (&)[SPLITS]);

void multiply_one(const Weights &w, const Activations &a, float *out, bool add, std::int64_t first, std::int64_t last) {
    const Form &form = *w.form;
    OnePanel one = panel_of_floats;
    if (form.scale != Scale::none) {
        with_form(form, [&](auto f) {
            one = a.planes == 2 ? panel_times_one<f.bits, f.size, f.kind, f.offset, 2>
                                : panel_times_one<f.bits, f.size, f.kind, f.offset, 1>;
        });
    }
    const std::int64_t bytes = panel_bytes(form, w.cols);
    for (std::int64_t p = first; p < last; ++p) {
        V result[SPLITS];
        one(form, w.cols, w.data + p * bytes, a, result);
        for (int split = 0; split < SPLITS; ++split) {
            const std::int64_t row = p * ROWS + split * W;
            if (row + W <= w.rows) {
                store(out + row, add ? load<V>(out + row) + result[split] : result[split]);
                continue;
            }
            float lanes[W];
            store(lanes, result[split]);
            for (int i = 0; row + i < w.rows; ++i) out[row + i] = add ? out[row + i] + lanes[i] : lanes[i];
        }
    }
}

}  // namespace quantmill::QM_LEVEL
