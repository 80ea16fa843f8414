// Weights times the activations of many tokens: a panel is unpacked to signed bytes once and used for every tile of tokens.
//
// The innermost loop keeps ABREAST vectors of rows times TOKENS tokens in registers. Sums of a group are exact integers; they are
// scaled and added in the order of the groups, one fma each, whatever the number of tokens or threads.
#include "infer/level.h"

namespace quantmill::QM_LEVEL {

// One panel, unpacked. `parts` are groups that share a scale.
struct Unpacked {
    std::int8_t *values;  // [column / 4][row][4]
    float *scales;        // [part][row]
    float *offsets;
    std::int32_t *bias;  // minus BIAS times the sum of the part's values

    Unpacked(std::uint8_t *buffer, std::int64_t cols, int size)
        : values(reinterpret_cast<std::int8_t *>(buffer)),
          scales(reinterpret_cast<float *>(buffer + cols * ROWS)),
          offsets(scales + cols / size * ROWS),
          bias(reinterpret_cast<std::int32_t *>(offsets + cols / size * ROWS)) {}
};

// Whether products take two rows of eight columns each, as smmla does, and a part's values lie in that order.
#if defined(__ARM_FEATURE_MATMUL_INT8)
constexpr bool IN_PAIRS = true;
#else
constexpr bool IN_PAIRS = false;
#endif

QM_INLINE void pair_steps(std::int8_t *values, int steps) {
    for (std::int8_t *at = values; at < values + steps * ROWS * 4; at += 2 * ROWS * 4) {
        std::int8_t paired[2 * ROWS * 4];
        for (int row = 0; row < ROWS; ++row) {
            // Vectors of four rows: the first two rows are where the four's first step was, the others where their second was.
            std::int8_t *to = paired + row / 4 * 16 + row % 4 / 2 * (ROWS * 4) + row % 2 * 8;
            std::memcpy(to, at + row * 4, 4);
            std::memcpy(to + 4, at + ROWS * 4 + row * 4, 4);
        }
        std::memcpy(at, paired, sizeof paired);
    }
}

template <int BITS>
QM_INLINE B values_of(const Form &form, const std::uint8_t *group, int step, int row) {
    const UB code = codes_of<BITS>(group, step, row);
    if constexpr (BITS <= 4) return look_up(form.values, code);
    if constexpr (BITS == 8) return (B)code;
    return (B)(code - std::uint8_t(form.bias));
}

template <int BITS, int SIZE, Scale KIND, bool OFFSET>
static void unpack(const Weights &w, std::int64_t panel, const Unpacked &to) {
    const Form form = *w.form;
    const std::uint8_t *head = w.data + panel * panel_bytes(form, w.cols), *codes = head + head_bytes(form, w.cols);
    constexpr int steps = SIZE / 4;
    const I ones = BIAS ? splat_int(0x01010101) : I{};
    std::int8_t *values = to.values;
    for (std::int64_t part = 0; part < w.cols / SIZE; ++part) {
        const std::uint8_t *group = codes + part * SIZE / GROUP * (ROWS * GROUP * BITS / 8);
        const int first = SIZE == 16 ? int(part % 2) * steps : 0;
        for (int row = 0; row < ROWS; row += W) {
            I sum = {};
            QM_UNROLL
            for (int step = 0; step < steps; ++step) {
                B v;
                if (SIZE == 16 && first) v = values_of<BITS>(form, group, step + 4, row);
                else v = values_of<BITS>(form, group, step, row);
                store(values + (step * ROWS + row) * 4, v);
                if (BIAS) sum = dot(sum, ones, (I)v);
            }
            V scale, offset = {};
            scales_of<KIND, OFFSET, SIZE>(head, part, row, scale, offset);
            store(to.scales + part * ROWS + row, scale);
            if (OFFSET) store(to.offsets + part * ROWS + row, offset);
            store(to.bias + part * ROWS + row, -BIAS * sum);
        }
        if (IN_PAIRS) pair_steps(values, steps);
        values += steps * ROWS * 4;
    }
}

#if defined(__AMX_INT8__)
#include "infer/tiles.h"
#else
struct Tiles {
    explicit Tiles(int) {}  // nothing to set up
};

#if defined(__ARM_FEATURE_MATMUL_INT8)
#include "infer/i8mm.h"
#else
// N vectors of rows times one tile of tokens. `row` is the first vector's row of its panel.
template <int N, int SIZE, bool OFFSET, int PLANES>
static void tile(const Unpacked *panels, int row, const Activations &a, std::int64_t index, V (&result)[2][TOKENS]) {
    constexpr int parts = GROUP / SIZE, steps = SIZE / 4;
    const std::int64_t groups = a.groups();
    const std::uint8_t *bytes = a.bytes + index * groups * PLANES * GROUP * TOKENS;
    const float *scales = a.scales + index * groups * TOKENS, *sums = a.sums + 3 * index * groups * TOKENS;
    V total[N][TOKENS];
    QM_UNROLL
    for (int n = 0; n < N; ++n) {
        QM_UNROLL
        for (int t = 0; t < TOKENS; ++t) total[n][t] = V{};
    }
    for (std::int64_t g = 0; g < groups; ++g) {
        for (int half = 0; half < parts; ++half) {
            const std::int64_t part = g * parts + half;
            const std::int64_t values = (part * steps * ROWS + row) * 4;
            I sum[N][TOKENS];
            QM_UNROLL
            for (int n = 0; n < N; ++n) {
                const I bias = BIAS ? load<I>(panels[n].bias + part * ROWS + row) : I{};
                QM_UNROLL
                for (int t = 0; t < TOKENS; ++t) sum[n][t] = bias;
            }
            QM_UNROLL
            for (int plane = 0; plane < PLANES; ++plane) {
                const std::uint8_t *x = bytes + (plane * 8 + half * steps) * 4 * TOKENS;
                if (plane) {
                    QM_UNROLL
                    for (int n = 0; n < N; ++n) {
                        const I bias = BIAS ? load<I>(panels[n].bias + part * ROWS + row) : I{};
                        QM_UNROLL
                        for (int t = 0; t < TOKENS; ++t) sum[n][t] = (sum[n][t] << 8) + bias;
                    }
                }
                QM_UNROLL
                for (int step = 0; step < steps; ++step) {
                    I w[N];
                    QM_UNROLL
                    for (int n = 0; n < N; ++n) w[n] = load<I>(panels[n].values + values + step * ROWS * 4);
                    QM_UNROLL
                    for (int t = 0; t < TOKENS; ++t) {
                        const I four = spread(x + (step * TOKENS + t) * 4);
                        QM_UNROLL
                        for (int n = 0; n < N; ++n) sum[n][t] = dot(sum[n][t], four, w[n]);
                    }
                }
            }
            QM_UNROLL
            for (int n = 0; n < N; ++n) {
                const V scale = load<V>(panels[n].scales + part * ROWS + row);
                QM_UNROLL
                for (int t = 0; t < TOKENS; ++t) {
                    total[n][t] = fma(to_float(sum[n][t]) * scales[t], scale, total[n][t]);
                }
                if constexpr (OFFSET) {
                    const V offset = load<V>(panels[n].offsets + part * ROWS + row);
                    const float *of = sums + (parts == 1 ? 2 : half) * TOKENS;
                    QM_UNROLL
                    for (int t = 0; t < TOKENS; ++t) total[n][t] = fma(offset, splat(of[t]), total[n][t]);
                }
            }
        }
        bytes += PLANES * GROUP * TOKENS, scales += TOKENS, sums += 3 * TOKENS;
    }
    QM_UNROLL
    for (int n = 0; n < N; ++n) {
        QM_UNROLL
        for (int t = 0; t < TOKENS; ++t) result[n][t] = total[n][t];
    }
}

#endif
#endif

// The same for weights that are floats: [column][row] and [column][token].
template <int N>
static void tile_of_floats(const float *const *panels, int row, const Activations &a, std::int64_t index,
                           V (&result)[2][TOKENS]) {
    const float *x = a.floats + index * a.cols * TOKENS;
    V total[N][TOKENS];
    QM_UNROLL
    for (int n = 0; n < N; ++n) {
        QM_UNROLL
        for (int t = 0; t < TOKENS; ++t) total[n][t] = V{};
    }
    for (std::int64_t k = 0; k < a.cols; ++k, x += TOKENS) {
        V w[N];
        QM_UNROLL
        for (int n = 0; n < N; ++n) w[n] = load<V>(panels[n] + k * ROWS + row);
        QM_UNROLL
        for (int t = 0; t < TOKENS; ++t) {
            QM_UNROLL
            for (int n = 0; n < N; ++n) total[n][t] = fma(w[n], splat(x[t]), total[n][t]);
        }
    }
    QM_UNROLL
    for (int n = 0; n < N; ++n) {
        QM_UNROLL
        for (int t = 0; t < TOKENS; ++t) result[n][t] = total[n][t];
    }
}

static void put(V v, std::int64_t row, std::int64_t rows, bool add, float *out) {
    if (row + W <= rows) {
        store(out + row, add ? load<V>(out + row) + v : v);
        return;
    }
    float lanes[W];
    store(lanes, v);
    for (int i = 0; row + i < rows; ++i) out[row + i] = add ? out[row + i] + lanes[i] : lanes[i];
}

// All tiles of tokens for the vectors of rows of one panel, or of two side by side.
template <class Tile>
QM_INLINE void for_tiles(const Activations &a, std::int64_t row, int count, std::int64_t rows, float *out, std::int64_t stride,
                         bool add, Tile tile) {
    for (std::int64_t index = 0; index < a.tiles(); ++index) {
        V result[2][TOKENS];
        tile(index, result);
        for (int t = 0; t < TOKENS && index * TOKENS + t < a.tokens; ++t) {
            float *to = out + (index * TOKENS + t) * stride;
            for (int n = 0; n < count; ++n) put(result[n][t], row + n * W, rows, add, to);
        }
    }
}

struct Job {
    const Weights &w;
    const Activations &a;
    float *out;
    std::int64_t stride;
    bool add;
    std::int64_t first, last;
    std::uint8_t *buffer;
};

template <int BITS, int SIZE, Scale KIND, bool OFFSET, int PLANES>
static void multiply_as(const Job &job) {
    const Weights &w = job.w;
    const std::int64_t room = tile_bytes_per_col(*w.form) * w.cols;
    const Tiles tiles(SIZE);
    const Unpacked panels[2] = {{job.buffer, w.cols, SIZE}, {job.buffer + room, w.cols, SIZE}};
    for (std::int64_t p = job.first; p < job.last; p += ABREAST) {
        const bool both = ABREAST == 2 && p + 1 < job.last;
        unpack<BITS, SIZE, KIND, OFFSET>(w, p, panels[0]);
        if (both) unpack<BITS, SIZE, KIND, OFFSET>(w, p + 1, panels[1]);
        for (int row = 0; row < ROWS; row += W) {
            for_tiles(job.a, p * ROWS + row, both ? 2 : 1, w.rows, job.out, job.stride, job.add,
                      [&](std::int64_t index, V(&result)[2][TOKENS]) {
                          if (both) tile<ABREAST, SIZE, OFFSET, PLANES>(panels, row, job.a, index, result);
                          else tile<1, SIZE, OFFSET, PLANES>(panels, row, job.a, index, result);
                      });
        }
    }
}

static void unpack_floats(const Weights &w, std::int64_t panel, float *to) {
    const Form &form = *w.form;
    const std::uint8_t *from = w.data + panel * panel_bytes(form, w.cols);
    for (std::int64_t i = 0; i < w.cols * ROWS; i += W) {
        const std::uint8_t *at = from + i * form.size;
        store(to + i, form.bits == 32 ? load<V>(at) : form.type[0] == 'B' ? from_brains(at) : from_halves(at));
    }
}

static void multiply_floats(const Job &job) {
    const Weights &w = job.w;
    float *const panels[2] = {reinterpret_cast<float *>(job.buffer), reinterpret_cast<float *>(job.buffer) + w.cols * ROWS};
    for (std::int64_t p = job.first; p < job.last; p += ABREAST) {
        const bool both = ABREAST == 2 && p + 1 < job.last;
        unpack_floats(w, p, panels[0]);
        if (both) unpack_floats(w, p + 1, panels[1]);
        for (int row = 0; row < ROWS; row += W) {
            for_tiles(job.a, p * ROWS + row, both ? 2 : 1, w.rows, job.out, job.stride, job.add,
                      [&](std::int64_t index, V(&result)[2][TOKENS]) {
                          if (both) tile_of_floats<ABREAST>(panels, row, job.a, index, result);
                          else tile_of_floats<1>(panels, row, job.a, index, result);
                      });
        }
    }
}

template <int BITS, int SIZE, Scale KIND, bool OFFSET>
static void by_planes(const Job &job) {
    if (job.a.planes == 2) multiply_as<BITS, SIZE, KIND, OFFSET, 2>(job);
    else multiply_as<BITS, SIZE, KIND, OFFSET, 1>(job);
}

void multiply(const Weights &w, const Activations &a, float *out, std::int64_t stride, bool add, std::int64_t first,
              std::int64_t last, std::uint8_t *buffer) {
    const Job job = {w, a, out, stride, add, first, last, buffer};
    if (w.form->scale == Scale::none) return multiply_floats(job);
    with_form(*w.form, [&](auto form) { by_planes<form.bits, form.size, form.kind, form.offset>(job); });
}

}  // namespace quantmill::QM_LEVEL
