// What the forward pass does row by row: norms, rotations, sums.
#include "forward/forward.h"
#include "forward/functions.h"

namespace quantmill::QM_LEVEL {

static V centred(const float *x, std::int64_t left, V mean) {  // what is not there stays zero
    const V v = load_some(x, left, 0.f) - mean;
    if (left >= W) return v;
    float lane[W];
    store(lane, v);
    for (std::int64_t i = left; i < W; ++i) lane[i] = 0;
    return load(lane);
}

// The sum of (x[j] - mean)^2.
QM_INLINE float squares(const float *x, std::int64_t n, bool less_mean, float mean) {
    const V middle = broadcast(mean);
    Sum sum = {};
    for (std::int64_t j = 0; j < n; j += LANES) {
        QM_UNROLL
        for (int i = 0; i < LANES / W; ++i) {
            const std::int64_t left = n - j - i * W;
            if (left <= 0) break;
            const V v = less_mean ? centred(x + j + i * W, left, middle) : load_some(x + j + i * W, left, 0.f);
            sum.part[i] += v * v;
        }
    }
    return total(sum);
}

static float average(const float *x, std::int64_t n) {
    Sum sum = {};
    for (std::int64_t j = 0; j < n; j += LANES) {
        for (int i = 0; i < LANES / W; ++i) sum.part[i] += load_some(x + j + i * W, n - j - i * W, 0.f);
    }
    return total(sum) / float(n);
}

// Of each of a row's groups: out[j] = x[j] * factor * weight[j], where there are weights.
QM_INLINE void scaled(const float *x, const float *weight, float *out, std::int64_t n, float by) {
    const V factor = broadcast(by);
    if (!weight) {
        for (std::int64_t j = 0; j < n; j += W) store_some(out + j, n - j, load_some(x + j, n - j, 0.f) * factor);
        return;
    }
    for (std::int64_t j = 0; j < n; j += W) {
        store_some(out + j, n - j, load_some(x + j, n - j, 0.f) * factor * load_some(weight + j, n - j, 0.f));
    }
}

// The factor is 1 / sqrt(mean of squares + eps).
static void rms_norm(const float *x, const float *weight, float *out, std::int64_t rows, std::int64_t n, std::int64_t groups, float eps) {
    const std::int64_t part = n / groups;
    for (std::int64_t i = 0; i < rows * groups; ++i, x += part, out += part) {
        const float mean = squares(x, part, false, 0) / float(part);
        scaled(x, weight ? weight + i % groups * part : nullptr, out, part, 1.f / __builtin_sqrtf(mean + eps));
    }
}

static void l2_norm(const float *x, float *out, std::int64_t rows, std::int64_t n, float eps, bool inside) {
    for (; rows > 0; --rows, x += n, out += n) {
        const float sum = squares(x, n, false, 0), root = __builtin_sqrtf(inside ? sum + eps : sum);
        scaled(x, nullptr, out, n, 1.f / (!inside && root < eps ? eps : root));
    }
}

static void layer_norm(const float *x, const float *weight, const float *bias, float *out, std::int64_t rows, std::int64_t n,
                       std::int64_t groups, float eps) {
    const std::int64_t part = n / groups;
    for (std::int64_t i = 0; i < rows * groups; ++i, x += part, out += part) {
        const float mean = average(x, part), variance = squares(x, part, true, mean) / float(part);
        const V middle = broadcast(mean), factor = broadcast(1.f / __builtin_sqrtf(variance + eps));
        const float *w = weight ? weight + i % groups * part : nullptr, *b = bias ? bias + i % groups * part : nullptr;
        for (std::int64_t j = 0; j < part; j += W) {
            const std::int64_t left = part - j;
            V v = (load_some(x + j, left, 0.f) - middle) * factor;
            if (w) v = v * load_some(w + j, left, 0.f);
            if (b) v = v + load_some(b + j, left, 0.f);
            store_some(out + j, left, v);
        }
    }
}

static void softmax(float *x, std::int64_t rows, std::int64_t n) {
    for (; rows > 0; --rows, x += n) {
        const V sum = broadcast(exponentials(x, n));
        for (std::int64_t j = 0; j < n; j += W) store_some(x + j, n - j, load_some(x + j, n - j, 0.f) / sum);
    }
}

static void add(const float *a, const float *b, float *out, std::int64_t count) {
    for (std::int64_t j = 0; j < count; ++j) out[j] = a[j] + b[j];
}

static void scale(float *x, float factor, std::int64_t count) {
    for (std::int64_t j = 0; j < count; ++j) x[j] *= factor;
}

static void add_scaled(float *acc, const float *y, float factor, std::int64_t count) {
    for (std::int64_t j = 0; j < count; ++j) acc[j] += factor * y[j];
}

// Columns of some registers at a time, so that the sums stay in them while all rows go by.
static void add_squares(float *acc, const float *x, std::int64_t rows, std::int64_t stride, std::int64_t count) {
    constexpr int TOGETHER = 8;
    std::int64_t j = 0;
    for (; j + TOGETHER * W <= count; j += TOGETHER * W) {
        V sum[TOGETHER];
        QM_UNROLL
        for (int i = 0; i < TOGETHER; ++i) sum[i] = load(acc + j + i * W);
        for (std::int64_t row = 0; row < rows; ++row) {
            QM_UNROLL
            for (int i = 0; i < TOGETHER; ++i) {
                const V v = load(x + row * stride + j + i * W);
                sum[i] += v * v;
            }
        }
        QM_UNROLL
        for (int i = 0; i < TOGETHER; ++i) store(acc + j + i * W, sum[i]);
    }
    if (j == count) return;
    for (std::int64_t row = 0; row < rows; ++row) {
        const float *at = x + row * stride;
        for (std::int64_t i = j; i < count; ++i) acc[i] += at[i] * at[i];
    }
}

// Of 2 W values that are pairs, in u and v, the first ones and the second ones.
#if defined(__AVX512F__)
#define QM_EVERY_OTHER(FROM) \
    FROM, FROM + 2, FROM + 4, FROM + 6, FROM + 8, FROM + 10, FROM + 12, FROM + 14, FROM + 16, FROM + 18, FROM + 20, FROM + 22, \
        FROM + 24, FROM + 26, FROM + 28, FROM + 30
#elif defined(__AVX2__)
#define QM_EVERY_OTHER(FROM) FROM, FROM + 2, FROM + 4, FROM + 6, FROM + 8, FROM + 10, FROM + 12, FROM + 14
#else
#define QM_EVERY_OTHER(FROM) FROM, FROM + 2, FROM + 4, FROM + 6
#endif
QM_INLINE V even(V u, V v) { return (V)QM_SHUFFLE((I)u, (I)v, QM_EVERY_OTHER(0)); }
QM_INLINE V odd(V u, V v) { return (V)QM_SHUFFLE((I)u, (I)v, QM_EVERY_OTHER(1)); }

// Rotates pair i of each head, the elements (i, i + half) or (2i, 2i + 1), by the angle whose cosine and sine are at i.
static void rope(float *x, const float *cos, const float *sin, std::int64_t heads, std::int64_t dims, std::int64_t half, bool neox) {
    const std::int64_t step = neox ? 1 : 2, other = neox ? half : 1;
    for (; heads > 0; --heads, x += dims) {
        std::int64_t i = 0;
        for (; i + W <= half; i += W) {
            float *const first = x + i * step, *const second = neox ? first + half : first + W;
            const V u = load(first), v = load(second), c = load(cos + i), s = load(sin + i);
            const V a = neox ? u : even(u, v), b = neox ? v : odd(u, v);
            const V p = a * c - b * s, q = a * s + b * c;
            store(first, neox ? p : (V)interleave_low((I)p, (I)q));
            store(second, neox ? q : (V)interleave_high((I)p, (I)q));
        }
        for (; i < half; ++i) {
            float *at = x + i * step;
            const float a = at[0], b = at[other];
            at[0] = a * cos[i] - b * sin[i];
            at[other] = a * sin[i] + b * cos[i];
        }
    }
}

extern const Rows rows;
const Rows rows = {rms_norm, l2_norm, layer_norm, softmax, add, scale, add_scaled, add_squares, rope};

}  // namespace quantmill::QM_LEVEL
