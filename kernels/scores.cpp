// What rows of logits say, in double: the negative log likelihood of a target, the largest, the divergence of two rows.
#include "forward.h"
#include "logarithm.h"
#include "simd.h"

namespace quantmill::QM_LEVEL {

constexpr int N = W / 2;      // doubles in a register
constexpr int LANES = 8;      // partial sums of a row
constexpr int PARTS = LANES / N;

typedef double D __attribute__((vector_size(8 * N)));
typedef std::int64_t L __attribute__((vector_size(8 * N)));
typedef float F __attribute__((vector_size(4 * N)));

// exp of v <= 0, within 2 units in the last place; 0 below -708, NaN stays NaN.
QM_INLINE D exponential(D v) {
    constexpr double rounder = 6755399441055744.0;  // 1.5 * 2^52 leaves the nearest integer in the low bits
    const D x = v > -709. ? v : D{} - 709.;
    const D shifted = x * 1.4426950408889634 + rounder, n = shifted - rounder;
    const D r = (x - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10;  // log(2) in two parts
    D p = r * (1. / 6227020800.) + 1. / 479001600.;
    p = p * r + 1. / 39916800.;
    p = p * r + 1. / 3628800.;
    p = p * r + 1. / 362880.;
    p = p * r + 1. / 40320.;
    p = p * r + 1. / 5040.;
    p = p * r + 1. / 720.;
    p = p * r + 1. / 120.;
    p = p * r + 1. / 24.;
    p = p * r + 1. / 6.;
    p = p * r + 0.5;
    p = (p * r) * r + r + 1.;
    const L power = ((L)shifted - (L)(D{} + rounder) + 1023) << 52;
    D value = p * (D)power;
    value = v < -708. ? D{} : value;
    return v != v ? v : value;
}

QM_INLINE D load_doubles(const float *from, std::int64_t n, float other) {
    F v;
    if (n >= N) {
        std::memcpy(&v, from, sizeof v);
    } else {
        for (int i = 0; i < N; ++i) v[i] = i < n ? from[i] : other;
    }
    return __builtin_convertvector(v, D);
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
    for (std::int64_t j = 0; j < n; j += LANES) {
        QM_UNROLL
        for (int i = 0; i < PARTS; ++i) sum[i] += exponential(load_doubles(x + j + i * N, n - j - i * N, -__builtin_inff()) - top);
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
    for (std::int64_t j = 0; j < n; j += LANES) {
        QM_UNROLL
        for (int i = 0; i < PARTS; ++i) {
            const std::int64_t left = n - j - i * N;
            const D log_p = (load_doubles(base + j + i * N, left, -__builtin_inff()) - p_top) - p_log;
            const D log_q = (load_doubles(logits + j + i * N, left, 0.f) - q_top) - q_log;
            const D p = exponential(log_p);
            sum[i] += p > 0. ? p * (log_p - log_q) : D{};  // what has no probability adds nothing
        }
    }
    return total(sum);
}

extern const Scores scores;
const Scores scores = {nll, kld};

}  // namespace quantmill::QM_LEVEL
