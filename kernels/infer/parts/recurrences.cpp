// The kernels of parts that carry a state.
#include "infer/exponential.h"
#include "infer/parts/recurrent.h"

namespace quantmill::QM_LEVEL {

constexpr int PER_COLUMN = COLUMNS / W;  // vectors

// log(1 + exp(x)): the larger of x and 0 plus log(1 + y) with y = exp(-|x|), which is 2 artanh(y / (2 + y)).
QM_INLINE V softplus(V x) {
    const V y = exponential(-absolute(x)), s = y / (2.f + y), square = s * s;
    V p = fma(square, splat(1.f / 13), splat(1.f / 11));
    p = fma(p, square, splat(1.f / 9));
    p = fma(p, square, splat(1.f / 7));
    p = fma(p, square, splat(1.f / 5));
    p = fma(p, square, splat(1.f / 3));
    p = fma(p, square, splat(1.f));
    return fma(s + s, p, greater(x, V{}));
}

static void convolve(const Convolution &c, std::int64_t first, std::int64_t last) {
    const std::int64_t past = c.taps - 1, count = last - first;
    float rows[MOST_TAPS - 1][CHANNELS], *row[MOST_TAPS - 1];  // of the tokens before, from the oldest in a ring
    for (std::int64_t i = 0; i < past; ++i) std::memcpy(rows[i], c.state + i * c.channels + first, std::size_t(count) * 4);
    for (std::int64_t t = 0; t < c.tokens; ++t) {
        const std::int64_t from = t * c.stride + first;
        for (std::int64_t i = 0; i < past; ++i) row[i] = rows[(t + i) % past];
        for (std::int64_t j = 0; j < count; j += W) {
            const float *weight = c.weight + first + j;
            V x = load<V>(c.x + from + j);
            if (c.before) x *= load<V>(c.before + from + j);
            V sum = x * load<V>(weight + past * c.channels);
            for (std::int64_t i = 0; i < past; ++i) sum = fma(load<V>(weight + i * c.channels), load<V>(row[i] + j), sum);
            if (c.bias) sum += load<V>(c.bias + first + j);
            if (c.activated) sum = silu(sum);
            if (c.behind) sum *= load<V>(c.behind + from + j);
            store(c.out + t * c.channels + first + j, sum);
            if (past) store(row[0] + j, x);
        }
    }
    for (std::int64_t i = 0; i < past; ++i) {
        std::memcpy(c.state + i * c.channels + first, rows[(c.tokens + i) % past], std::size_t(count) * 4);
    }
}

static void steps(const float *raw, const float *bias, const float *factor, std::int64_t n, float *dt, float *decay) {
    for (std::int64_t i = 0; i < n; i += W) {
        const std::size_t bytes = std::size_t(n - i < W ? n - i : W) * 4;
        V x = {}, more = {}, by = {};
        std::memcpy(&x, raw + i, bytes), std::memcpy(&more, bias + i, bytes), std::memcpy(&by, factor + i, bytes);
        const V step = softplus(x + more), left = exponential(step * by);
        std::memcpy(dt + i, &step, bytes), std::memcpy(decay + i, &left, bytes);
    }
}

// Where vector i of a row of a state lies, from the first of the columns' rows on.
QM_INLINE std::int64_t place(int i, std::int64_t rows) { return i / PER_COLUMN * rows * COLUMNS + i % PER_COLUMN * W; }

template <int N>
static void scan_some(const Scan &s, std::int64_t head, std::int64_t first) {
    float *state = s.state + (head * s.dims + first) * s.states;
    const std::int64_t group = head / (s.heads / s.groups) * s.states, column = head * s.dims + first;
    for (std::int64_t t = 0; t < s.tokens; ++t) {
        const float *x = s.x + t * s.stride + column, *b = s.b + t * s.stride + group, *c = s.c + t * s.stride + group;
        const V decay = splat(s.decay[t * s.heads + head]);
        const float dt = s.dt[t * s.heads + head];
        V in[N], sum[N] = {};
        QM_UNROLL
        for (int i = 0; i < N; ++i) in[i] = load<V>(x + i * W) * dt;
        for (std::int64_t n = 0; n < s.states; ++n) {
            const V to = splat(b[n]), from = splat(c[n]);
            QM_UNROLL
            for (int i = 0; i < N; ++i) {
                float *at = state + n * COLUMNS + place(i, s.states);
                const V v = fma(to, in[i], load<V>(at) * decay);
                store(at, v);
                sum[i] = fma(v, from, sum[i]);
            }
        }
        const V direct = splat(s.direct[head]);
        QM_UNROLL
        for (int i = 0; i < N; ++i) store(s.out + t * s.heads * s.dims + column + i * W, fma(load<V>(x + i * W), direct, sum[i]));
    }
}

static float norm_pair(float *q, float *k, std::int64_t n, float eps, float scale) {
    V sums[3] = {};
    for (std::int64_t i = 0; i < n; i += W) {
        const V a = load<V>(q + i), b = load<V>(k + i);
        sums[0] = fma(a, a, sums[0]), sums[1] = fma(b, b, sums[1]), sums[2] = fma(a, b, sums[2]);
    }
    const float of_q = scale / __builtin_sqrtf(across(sums[0]) + eps), of_k = 1.f / __builtin_sqrtf(across(sums[1]) + eps);
    for (std::int64_t i = 0; i < n; i += W) store(q + i, load<V>(q + i) * of_q), store(k + i, load<V>(k + i) * of_k);
    return across(sums[2]) * of_q * of_k;
}

// The state is read for a token while the one before is written to it.
template <int N>
static void delta_some(const Delta &d, std::int64_t head, std::int64_t first) {
    float *state = d.state + (head * d.value_dims + first) * d.key_dims;
    const std::int64_t key = d.key_head(head), column = head * d.value_dims + first;
    V change[N] = {}, kept = {};
    const float *before = nullptr;  // the key of the token before
    for (std::int64_t t = 0; t <= d.tokens; ++t) {
        const float *q = d.q + t * d.stride + key * d.key_dims, *k = d.k + t * d.stride + key * d.key_dims;
        V known[N] = {}, seen[N] = {};
        const auto pass = [&](auto writes, auto reads) {
            for (std::int64_t n = 0; n < d.key_dims; ++n) {
                QM_UNROLL
                for (int i = 0; i < N; ++i) {
                    float *at = state + n * COLUMNS + place(i, d.key_dims);
                    V v = load<V>(at);
                    if constexpr (writes.value) {
                        v = fma(splat(before[n]), change[i], v * kept);
                        store(at, v);
                    }
                    if constexpr (reads.value) known[i] = fma(splat(k[n]), v, known[i]), seen[i] = fma(splat(q[n]), v, seen[i]);
                }
            }
        };
        if (t == 0) pass(Int<0>{}, Int<1>{});
        else if (t < d.tokens) pass(Int<1>{}, Int<1>{});
        else return pass(Int<1>{}, Int<0>{});
        const std::int64_t at = t * d.heads + head;
        kept = splat(d.decay[at]);
        const float along = d.along[t * d.key_heads + key], beta = d.beta[at];
        QM_UNROLL
        for (int i = 0; i < N; ++i) {
            change[i] = (load<V>(d.v + t * d.stride + column + i * W) - known[i] * kept) * beta;
            store(d.out + t * d.heads * d.value_dims + column + i * W, fma(change[i], splat(along), seen[i] * kept));
        }
        before = k;
    }
}

// Calls work(vectors, first column) for as many columns at a time as fill the registers.
template <class Work>
QM_INLINE void by_columns(std::int64_t first, std::int64_t count, Work work) {
    constexpr int TOGETHER = 4 > PER_COLUMN ? 4 : PER_COLUMN, STEP = TOGETHER * W;
    const std::int64_t last = first + count;
    for (; first + STEP <= last; first += STEP) work(Int<TOGETHER>{}, first);
    for (; first < last; first += COLUMNS) work(Int<PER_COLUMN>{}, first);
}

static void scan(const Scan &s, std::int64_t head, std::int64_t first, std::int64_t count) {
    by_columns(first, count, [&](auto vectors, std::int64_t at) { scan_some<vectors.value>(s, head, at); });
}

static void delta(const Delta &d, std::int64_t head, std::int64_t first, std::int64_t count) {
    by_columns(first, count, [&](auto vectors, std::int64_t at) { delta_some<vectors.value>(d, head, at); });
}

extern const RecurrentKernels recurrences;
const RecurrentKernels recurrences = {convolve, steps, scan, norm_pair, delta};

}  // namespace quantmill::QM_LEVEL
