// What the forward pass does row by row: norms, activations, rotations, sums.
#include "forward.h"
#include "functions.h"

namespace quantmill::QM_LEVEL {

// out[j] = x[j] * (1 / sqrt(sum of squares / n + eps)) * weight[j]
static void rms_norm(const float *x, const float *weight, float *out, std::int64_t rows, std::int64_t n, float eps) {
    for (; rows > 0; --rows, x += n, out += n) {
        Sum sum = {};
        for (std::int64_t j = 0; j < n; j += LANES) {
            QM_UNROLL
            for (int i = 0; i < LANES / W; ++i) {
                if (n - j - i * W <= 0) break;
                const V v = load_some(x + j + i * W, n - j - i * W, 0.f);
                sum.part[i] += v * v;
            }
        }
        const float mean = total(sum) / float(n);
        const V factor = broadcast(1.f / __builtin_sqrtf(mean + eps));
        for (std::int64_t j = 0; j < n; j += W) {
            store_some(out + j, n - j, load_some(x + j, n - j, 0.f) * factor * load_some(weight + j, n - j, 0.f));
        }
    }
}

static void softmax(float *x, std::int64_t rows, std::int64_t n) {
    for (; rows > 0; --rows, x += n) {
        const V sum = broadcast(exponentials(x, n));
        for (std::int64_t j = 0; j < n; j += W) store_some(x + j, n - j, load_some(x + j, n - j, 0.f) / sum);
    }
}

static void silu_mul(const float *gate, const float *up, float *out, std::int64_t count) {
    for (std::int64_t j = 0; j < count; j += W) {
        const std::int64_t left = count - j;
        store_some(out + j, left, silu(load_some(gate + j, left, 0.f)) * load_some(up + j, left, 0.f));
    }
}

static void gelu_mul(const float *gate, const float *up, float *out, std::int64_t count) {
    for (std::int64_t j = 0; j < count; j += W) {
        const std::int64_t left = count - j;
        store_some(out + j, left, gelu(load_some(gate + j, left, 0.f)) * load_some(up + j, left, 0.f));
    }
}

static void add(const float *a, const float *b, float *out, std::int64_t count) {
    for (std::int64_t j = 0; j < count; ++j) out[j] = a[j] + b[j];
}

static void scale(float *x, float factor, std::int64_t count) {
    for (std::int64_t j = 0; j < count; ++j) x[j] *= factor;
}

static void softcap(float *x, float cap, std::int64_t count) {
    const V limit = broadcast(cap);
    for (std::int64_t j = 0; j < count; j += W) {
        store_some(x + j, count - j, limit * hyperbolic_tangent(load_some(x + j, count - j, 0.f) / limit));
    }
}

static void add_scaled(float *acc, const float *y, float factor, std::int64_t count) {
    for (std::int64_t j = 0; j < count; ++j) acc[j] += factor * y[j];
}

static void add_squares(float *acc, const float *x, std::int64_t count) {
    for (std::int64_t j = 0; j < count; ++j) acc[j] += x[j] * x[j];
}

// Rotates pair i of each head, the elements (i, i + half) or (2i, 2i + 1), by the angle whose cosine and sine are at i.
static void rope(float *x, const float *cos, const float *sin, std::int64_t heads, std::int64_t dims, std::int64_t half, bool neox) {
    const std::int64_t step = neox ? 1 : 2, other = neox ? half : 1;
    for (; heads > 0; --heads, x += dims) {
        for (std::int64_t i = 0; i < half; ++i) {
            float *at = x + i * step;
            const float a = at[0], b = at[other];
            at[0] = a * cos[i] - b * sin[i];
            at[other] = a * sin[i] + b * cos[i];
        }
    }
}

extern const Rows rows;
const Rows rows = {rms_norm, softmax, silu_mul, gelu_mul, add, scale, softcap, add_scaled, add_squares, rope};

}  // namespace quantmill::QM_LEVEL
