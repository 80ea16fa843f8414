// Attention over the cache. Keys lie in blocks of sixteen positions, so that scores of sixteen keys fill a vector; values lie by
// position, so that a position's dimensions do.
#include "infer/exponential.h"

namespace quantmill::QM_LEVEL {

constexpr int KEYS = 16;  // of a block

// Scores of `blocks` blocks from `first` on for T queries: N vectors of keys at a time.
template <int T, int N>
static void score(const Heads &h, const float *q, std::int64_t stride, std::int64_t first, std::int64_t last, float *scores,
                  std::int64_t row) {
    constexpr int vectors = KEYS / W;
    const std::int64_t total = (last - first) * vectors;
    std::int64_t v = 0;
    const auto some = [&](auto count) {
        constexpr int M = count.value;
        V sum[M][T] = {};
        const std::uint16_t *keys[M];
        for (int n = 0; n < M; ++n) keys[n] = h.keys + ((first + (v + n) / vectors) * h.dims) * KEYS + (v + n) % vectors * W;
        for (std::int64_t d = 0; d < h.dims; ++d) {
            V k[M];
            QM_UNROLL
            for (int n = 0; n < M; ++n) k[n] = from_halves(keys[n] + d * KEYS);
            QM_UNROLL
            for (int t = 0; t < T; ++t) {
                const V x = splat(q[t * stride + d]);
                QM_UNROLL
                for (int n = 0; n < M; ++n) sum[n][t] = fma(k[n], x, sum[n][t]);
            }
        }
        for (int t = 0; t < T; ++t) {
            for (int n = 0; n < M; ++n) store(scores + t * row + (v + n) * W, sum[n][t]);
        }
        v += M;
    };
    while (v + N <= total) some(Int<N>{});
    while (v < total) some(Int<1>{});
}

// Weights of one query's scores: exp(score - largest) and 0 for keys it does not see. Their sum, with a sink's where there is one.
static float weigh(float scale, const float *sink, float *scores, std::int64_t from, std::int64_t to, std::int64_t end) {
    for (std::int64_t i = 0; i < from; ++i) scores[i] = -__builtin_inff();
    for (std::int64_t i = to; i < end; ++i) scores[i] = -__builtin_inff();
    V most = load<V>(scores);
    for (std::int64_t i = W; i < end; i += W) most = greater(load<V>(scores + i), most);
    float largest = most[0];
    for (int i = 1; i < W; ++i) largest = most[i] > largest ? most[i] : largest;
    V sum = {};
    for (std::int64_t i = 0; i < end; i += W) {
        const V s = load<V>(scores + i);
        const V p = select(s > -__builtin_inff(), exponential((s - largest) * scale), V{});
        store(scores + i, p);
        sum += p;
    }
    return across(sum) + (sink ? exponential(splat(*sink - largest * scale))[0] : 0.f);
}

// Values weighed: N vectors of dimensions for T queries.
template <int T, int N>
static void gather(const Heads &h, const float *scores, std::int64_t row, std::int64_t first, std::int64_t count, const float *sums,
                   std::int64_t dim, float *out, std::int64_t stride) {
    V total[T][N] = {};
    const std::uint16_t *values = h.values + first * h.value_dims + dim;
    for (std::int64_t i = 0; i < count; ++i, values += h.value_dims) {
        V v[N];
        QM_UNROLL
        for (int n = 0; n < N; ++n) v[n] = from_halves(values + n * W);
        QM_UNROLL
        for (int t = 0; t < T; ++t) {
            const V p = splat(scores[t * row + i]);
            QM_UNROLL
            for (int n = 0; n < N; ++n) total[t][n] = fma(v[n], p, total[t][n]);
        }
    }
    for (int t = 0; t < T; ++t) {
        for (int n = 0; n < N; ++n) store(out + t * stride + dim + n * W, total[t][n] * (1.f / sums[t]));
    }
}

template <int T>
static void attend_some(const Heads &h, const float *q, std::int64_t stride, std::int64_t position, bool same,
                        std::int64_t window, float *out, std::int64_t out_stride, float *scores) {
    const std::int64_t last = position + (same ? 0 : T - 1);
    const std::int64_t from = window && position >= window ? position - window + 1 : 0;
    const std::int64_t first = from / KEYS, blocks = last / KEYS + 1, row = (blocks - first) * KEYS;
    score<T, T == 1 ? 4 : 2>(h, q, stride, first, blocks, scores, row);
    float sums[T];
    for (int t = 0; t < T; ++t) {
        const std::int64_t at = position + (same ? 0 : t), start = window && at >= window ? at - window + 1 : 0;
        float *own = scores + t * row, scale = h.scale;
        if (h.cap > 0) limit(own, row, scale, h.cap), scale = 1;
        sums[t] = weigh(scale, h.sinks ? h.sinks + (same ? t : 0) : nullptr, own, start - first * KEYS, at + 1 - first * KEYS, row);
    }
    constexpr int N = W == 16 ? 4 : 2;
    const std::int64_t count = last + 1 - first * KEYS;
    std::int64_t dim = 0;
    for (; dim + N * W <= h.value_dims; dim += N * W) gather<T, N>(h, scores, row, first * KEYS, count, sums, dim, out, out_stride);
    for (; dim < h.value_dims; dim += W) gather<T, 1>(h, scores, row, first * KEYS, count, sums, dim, out, out_stride);
}

void attend(const Heads &heads, const float *q, std::int64_t stride, std::int64_t n, std::int64_t position, bool same,
            std::int64_t window, float *out, std::int64_t out_stride, float *scores) {
    Heads h = heads;
    while (n > 0) {
        const auto some = [&](auto count) {
            attend_some<count.value>(h, q, stride, position, same, window, out, out_stride, scores);
            n -= count.value, q += count.value * stride, out += count.value * out_stride;
            if (!same) position += count.value;
            else if (h.sinks) h.sinks += count.value;
        };
        if (n >= TOKENS) some(Int<TOKENS>{});
        else if (n >= 3) some(Int<3>{});
        else if (n >= 2) some(Int<2>{});
        else some(Int<1>{});
    }
}

void store_key(const float *key, std::int64_t dims, std::uint16_t *keys, std::int64_t position) {
    std::uint16_t *to = keys + position / KEYS * dims * KEYS + position % KEYS;
    for (std::int64_t d = 0; d < dims; d += W) {
        std::uint16_t halves[W];
        store(halves, to_halves(load<V>(key + d)));
        for (int i = 0; i < W; ++i) to[(d + i) * KEYS] = halves[i];
    }
}

void store_value(const float *value, std::int64_t dims, std::uint16_t *values, std::int64_t position) {
    for (std::int64_t d = 0; d < dims; d += W) store(values + position * dims + d, to_halves(load<V>(value + d)));
}

}  // namespace quantmill::QM_LEVEL
