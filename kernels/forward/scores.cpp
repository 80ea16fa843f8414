// What rows of logits say, in double: the negative log likelihood of a target, the largest, the divergence of two rows.
#include "common/simd.h"
#include "forward/forward.h"
#include "forward/logarithm.h"

namespace quantmill::QM_LEVEL {

constexpr int N = W / 2;      // doubles in a register
constexpr int LANES = 8;      // partial sums of a row
constexpr int PARTS = LANES / N;
constexpr int GROUP = 4;      // registers that go side by side: a polynomial alone would wait for itself at every step
static_assert(GROUP % PARTS == 0, "a group adds to each partial sum as often as to any other");

typedef double D __attribute__((vector_size(8 * N)));
typedef std::int64_t L __attribute__((vector_size(8 * N)));
typedef float F __attribute__((vector_size(4 * N)));

// 1 / n! for n from 13 to 2: the Taylor series of exp, its first two terms apart
constexpr double FACTORIALS[] = {1. / 6227020800., 1. / 479001600., 1. / 39916800., 1. / 3628800., 1. / 362880., 1. / 40320.,
                                 1. / 5040.,       1. / 720.,       1. / 120.,      1. / 24.,      1. / 6.,      0.5};

// exp of v <= 0, within 2 units in the last place; 0 below -708, NaN stays NaN.
QM_INLINE void exponential(const D (&v)[GROUP], D (&value)[GROUP]) {
    constexpr double rounder = 6755399441055744.0;  // 1.5 * 2^52 leaves the nearest integer in the low bits
    D shifted[GROUP], r[GROUP], p[GROUP];
    QM_UNROLL
    for (int i = 0; i < GROUP; ++i) {
        const D x = v[i] > -709. ? v[i] : D{} - 709.;
        shifted[i] = x * 1.4426950408889634 + rounder;
        const D n = shifted[i] - rounder;
        r[i] = (x - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10;  // log(2) in two parts
        p[i] = D{} + FACTORIALS[0];
    }
    QM_UNROLL
    for (int term = 1; term < int(sizeof FACTORIALS / sizeof *FACTORIALS); ++term) {
        QM_UNROLL
        for (int i = 0; i < GROUP; ++i) p[i] = p[i] * r[i] + FACTORIALS[term];
    }
    QM_UNROLL
    for (int i = 0; i < GROUP; ++i) {
        p[i] = (p[i] * r[i]) * r[i] + r[i] + 1.;
        const L power = ((L)shifted[i] - (L)(D{} + rounder) + 1023) << 52;
        value[i] = p[i] * (D)power;
        value[i] = v[i] < -708. ? D{} : value[i];
        value[i] = v[i] != v[i] ? v[i] : value[i];
    }
}

// GROUP registers from where `n` floats are left; what is not there is `other`.
QM_INLINE void load_group(const float *from, std::int64_t n, float other, D (&out)[GROUP]) {
    float edge[GROUP * N];
    if (n < GROUP * N) {
        for (int i = 0; i < GROUP * N; ++i) edge[i] = i < n ? from[i] : other;
        from = edge;
    }
    QM_UNROLL
    for (int i = 0; i < GROUP; ++i) {
        F v;
        std::memcpy(&v, from + i * N, sizeof v);
        out[i] = __builtin_convertvector(v, D);
    }
}

QM_INLINE double total(const D (&part)[PARTS]) {
    double lane[LANES];
    std::memcpy(lane, part, sizeof lane);
    for (int half = LANES / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; ++i) lane[i] += lane[i + half];
    }
    return lane[0];
}

QM_INLINE V wide(const float *from) {
    V v;
    std::memcpy(&v, from, sizeof v);
    return v;
}

QM_INLINE float largest(const float *x, std::int64_t n) {
    const V none = splat(-__builtin_inff());
    V some[] = {none, none, none, none};
    std::int64_t j = 0;
    for (; j + 4 * W <= n; j += 4 * W) {  // of several at a time, since each waits for the one before
        QM_UNROLL
        for (int i = 0; i < 4; ++i) some[i] = greater(wide(x + j + i * W), some[i]);
    }
    for (; j + W <= n; j += W) some[0] = greater(wide(x + j), some[0]);
    const V most = greater(greater(some[0], some[1]), greater(some[2], some[3]));
    float found = -__builtin_inff();
    for (int i = 0; i < W; ++i) found = most[i] > found ? most[i] : found;
    for (; j < n; ++j) found = x[j] > found ? x[j] : found;
    return found;
}

// log of the sum of exp(x[j] - top)
static double log_sum(const float *x, std::int64_t n, double top) {
    D sum[PARTS] = {};
    for (std::int64_t j = 0; j < n; j += GROUP * N) {
        D v[GROUP], e[GROUP];
        load_group(x + j, n - j, -__builtin_inff(), v);
        QM_UNROLL
        for (int i = 0; i < GROUP; ++i) v[i] -= top;
        exponential(v, e);
        QM_UNROLL
        for (int i = 0; i < GROUP; ++i) sum[i % PARTS] += e[i];
    }
    return logarithm(total(sum));
}

static double nll(const float *logits, std::int64_t n, std::int64_t target, std::int32_t *top) {
    const float most = largest(logits, n);
    std::int64_t at = 0;
    while (at + W <= n && !any(wide(logits + at) == most)) at += W;
    while (at < n - 1 && logits[at] != most) ++at;
    *top = std::int32_t(at < n ? at : n - 1);
    return log_sum(logits, n, double(most)) - (double(logits[target]) - double(most));
}

// The sum of p (log p - log q), p = softmax(base), q = softmax(logits).
static double kld(const float *base, const float *logits, std::int64_t n) {
    const double p_top = double(largest(base, n)), q_top = double(largest(logits, n));
    const double p_log = log_sum(base, n, p_top), q_log = log_sum(logits, n, q_top);
    D sum[PARTS] = {};
    for (std::int64_t j = 0; j < n; j += GROUP * N) {
        D log_p[GROUP], log_q[GROUP], p[GROUP];
        load_group(base + j, n - j, -__builtin_inff(), log_p);
        load_group(logits + j, n - j, 0.f, log_q);
        QM_UNROLL
        for (int i = 0; i < GROUP; ++i) {
            log_p[i] = (log_p[i] - p_top) - p_log;
            log_q[i] = (log_q[i] - q_top) - q_log;
        }
        exponential(log_p, p);
        QM_UNROLL
        for (int i = 0; i < GROUP; ++i) {
            sum[i % PARTS] += p[i] > 0. ? p[i] * (log_p[i] - log_q[i]) : D{};  // what has no probability adds nothing
        }
    }
    return total(sum);
}

extern const Scores scores;
const Scores scores = {nll, kld};

}  // namespace quantmill::QM_LEVEL
