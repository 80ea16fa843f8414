// Causal attention of one head for a block of queries: scores and the weighted sum of the values are chains of fma as in gemm_f32.cpp,
// in the order of the dimensions and of the positions; the softmax between them is functions.h's.
#include "forward/chains.h"
#include "forward/forward.h"
#include "forward/functions.h"

namespace quantmill::QM_LEVEL {

// A block sees the positions from its first query's oldest, rounded down to a whole panel, to its last query. It is a number of all
// levels, since what is masked adds zeros to a chain.
constexpr int BLOCK = 48;
constexpr int STRIP = 12;  // queries of a block whose products end with what the last of them sees; of all levels, too
static_assert(BLOCK % STRIP == 0 && STRIP % ROWS == 0, "whole tiles");

QM_INLINE std::int64_t panels(std::int64_t n) { return (n + PANEL - 1) / PANEL; }

// Of one (sequence, kv head): keys as panels of positions, [position / PANEL][dim][PANEL], then values as panels of dims,
// [dim / PANEL][position][PANEL].
static std::int64_t keys_floats(const Attention &of) { return panels(of.sequence) * PANEL * of.dims; }
static std::int64_t packed_floats(const Attention &of) {
    return keys_floats(of) + panels(of.value_dims) * PANEL * of.sequence;
}

static void pack(const Attention &of, std::int64_t sequence, std::int64_t kv_head) {
    float *to = of.packed + (sequence * of.kv_heads + kv_head) * packed_floats(of);
    const std::int64_t key_stride = of.kv_heads * of.dims, value_stride = of.kv_heads * of.value_dims;
    const float *k = of.k + sequence * of.sequence * key_stride + kv_head * of.dims;
    const float *v = of.v + sequence * of.sequence * value_stride + kv_head * of.value_dims;
    for (std::int64_t position = 0; position < panels(of.sequence) * PANEL; ++position) {
        float *at = to + position / PANEL * PANEL * of.dims + position % PANEL;
        for (std::int64_t d = 0; d < of.dims; ++d) at[d * PANEL] = position < of.sequence ? k[position * key_stride + d] : 0.f;
    }
    to += keys_floats(of);
    for (std::int64_t panel = 0; panel < panels(of.value_dims); ++panel, to += of.sequence * PANEL) {
        const std::int64_t left = of.value_dims - panel * PANEL, valid = left < PANEL ? left : PANEL;
        for (std::int64_t position = 0; position < of.sequence; ++position) {
            const float *from = v + position * value_stride + panel * PANEL;
            for (std::int64_t d = 0; d < PANEL; ++d) to[position * PANEL + d] = d < valid ? from[d] : 0.f;
        }
    }
}

// Scores of ROWS queries, then the same or the queries packed.
static std::int64_t scratch_floats(const Attention &of) {
    const std::int64_t span = panels(of.sequence) * PANEL;
    return ROWS * (span + (span > of.dims ? span : of.dims)) + 2 * W;
}

// The first position that a query sees.
static std::int64_t oldest(const Attention &of, std::int64_t row) {
    const std::int64_t window = of.window && row + 1 > of.window ? row + 1 - of.window : 0;
    const std::int64_t chunk = of.chunk ? row / of.chunk * of.chunk : 0;
    return window > chunk ? window : chunk;
}

// One query's scores, of positions `begin` on, to weights; what it does not see has none. The sum of the weights.
static float weigh(const Attention &of, float *scores, std::int64_t head, std::int64_t begin, std::int64_t row, std::int64_t end) {
    const std::int64_t first = oldest(of, row);
    const V scale = broadcast(of.scale);
    for (std::int64_t j = 0; j <= row - begin; j += W) {
        store(scores + j, load(scores + j) * scale);  // what is too many is within the row of scores, and replaced below
    }
    if (of.soft_cap > 0) {
        const V cap = broadcast(of.soft_cap);
        for (std::int64_t j = 0; j <= row - begin; j += W) store(scores + j, cap * hyperbolic_tangent(load(scores + j) / cap));
    }
    if (of.slopes) {
        for (std::int64_t j = begin; j <= row; ++j) scores[j - begin] -= of.slopes[head] * float(row - j);
    }
    for (std::int64_t j = begin; j < first; ++j) scores[j - begin] = -__builtin_inff();
    // A sink is the score behind the last, whose place may be another row's.
    const std::int64_t count = row + 1 - begin;
    const float behind = scores[count];
    if (of.sinks) scores[count] = of.sinks[head];
    const float sum = exponentials(scores, of.sinks ? count + 1 : count);
    scores[count] = behind;
    for (std::int64_t j = row + 1; j < end; ++j) scores[j - begin] = 0.f;
    return sum;
}

static void run(const Attention &of, std::int64_t sequence, std::int64_t head, std::int64_t block, float *scratch) {
    const std::int64_t kv_head = head / (of.heads / of.kv_heads);
    const float *keys = of.packed + (sequence * of.kv_heads + kv_head) * packed_floats(of), *values = keys + keys_floats(of);
    const std::int64_t first = block * BLOCK, end = first + BLOCK < of.sequence ? first + BLOCK : of.sequence;
    const std::int64_t begin = oldest(of, first) / PANEL * PANEL;
    const std::int64_t span = panels(end - begin) * PANEL;
    const std::int64_t q_stride = of.heads * of.dims, out_stride = of.heads * of.value_dims;
    const float *q = of.q + (sequence * of.sequence + first) * q_stride + head * of.dims;
    float *out = of.out + (sequence * of.sequence + first) * out_stride + head * of.value_dims;
    float *scores = scratch, *packed = scores + ROWS * span;
    for (std::int64_t row = first; row < end; row += ROWS) {
        const int rows = int(end - row < ROWS ? end - row : ROWS);
        pack_rows<ROWS>(q + (row - first) * q_stride, q_stride, rows, of.dims, packed);
        const std::int64_t strip = first + ((row - first) / STRIP + 1) * STRIP, seen = strip < end ? strip : end;
        for (std::int64_t panel = begin; panel < seen; panel += PANEL) {
            multiply_panel(packed, rows, keys + panel * of.dims, of.dims, scores + panel - begin, span, PANEL, true);
        }
        float sum[ROWS];
        for (int i = 0; i < rows; ++i) sum[i] = weigh(of, scores + i * span, head, begin, row + i, seen);
        pack_rows<ROWS>(scores, span, rows, seen - begin, packed);
        for (std::int64_t panel = 0; panel < panels(of.value_dims); ++panel) {
            const std::int64_t left = of.value_dims - panel * PANEL;
            const float *value = values + (panel * of.sequence + begin) * PANEL;
            multiply_panel(packed, rows, value, seen - begin, out + (row - first) * out_stride + panel * PANEL, out_stride,
                           int(left < PANEL ? left : PANEL), true);
        }
        for (int i = 0; i < rows; ++i) {
            float *o = out + (row - first + i) * out_stride;
            for (std::int64_t d = 0; d < of.value_dims; ++d) o[d] /= sum[i];
        }
    }
}

extern const Attend attend;
const Attend attend = {BLOCK, packed_floats, scratch_floats, pack, run};

}  // namespace quantmill::QM_LEVEL
