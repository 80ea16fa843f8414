// What the forward pass does with single elements: activations, alone and as gates, products, limits.
#include "forward/forward.h"
#include "forward/functions.h"

namespace quantmill::QM_LEVEL {

template <class Function>
QM_INLINE void each(const float *x, float *out, std::int64_t count, Function function) {
    for (std::int64_t j = 0; j < count; j += W) store_some(out + j, count - j, function(load_some(x + j, count - j, 0.f)));
}

template <class Function>
QM_INLINE void both(const float *x, const float *y, float *out, std::int64_t count, Function function) {
    for (std::int64_t j = 0; j < count; j += W) {
        const std::int64_t left = count - j;
        store_some(out + j, left, function(load_some(x + j, left, 0.f), load_some(y + j, left, 0.f)));
    }
}

QM_INLINE V relu(V v) { return select(v < 0.f, V{}, v); }

static void activate(Activation kind, const float *x, float *out, std::int64_t count) {
    switch (kind) {
        case Activation::silu: return each(x, out, count, [](V v) { return silu(v); });
        case Activation::gelu: return each(x, out, count, [](V v) { return gelu(v); });
        case Activation::gelu_erf: return each(x, out, count, [](V v) { return gelu_erf(v); });
        case Activation::gelu_quick: return each(x, out, count, [](V v) { return v * sigmoid(1.702f * v); });
        case Activation::relu: return each(x, out, count, [](V v) { return relu(v); });
        case Activation::relu_squared: return each(x, out, count, [](V v) { return relu(v) * relu(v); });
        case Activation::sigmoid: return each(x, out, count, [](V v) { return sigmoid(v); });
        case Activation::tanh: return each(x, out, count, [](V v) { return hyperbolic_tangent(v); });
        case Activation::softplus: return each(x, out, count, [](V v) { return softplus(v); });
        case Activation::exp: return each(x, out, count, [](V v) { return exponential(v); });
    }
}

// The common activations of a gate have one loop; the others go through a part of the row.
static void gate(Activation kind, const float *gate, const float *up, float *out, std::int64_t count) {
    switch (kind) {
        case Activation::silu: return both(gate, up, out, count, [](V g, V u) { return silu(g) * u; });
        case Activation::gelu: return both(gate, up, out, count, [](V g, V u) { return gelu(g) * u; });
        case Activation::gelu_erf: return both(gate, up, out, count, [](V g, V u) { return gelu_erf(g) * u; });
        case Activation::sigmoid: return both(gate, up, out, count, [](V g, V u) { return sigmoid(g) * u; });
        default: break;
    }
    float part[256];
    for (std::int64_t j = 0; j < count; j += 256) {
        const std::int64_t left = count - j < 256 ? count - j : 256;
        activate(kind, gate + j, part, left);
        both(part, up + j, out + j, left, [](V g, V u) { return g * u; });
    }
}

static void clamped_gate(const float *gate, const float *up, float *out, std::int64_t count, float alpha, float limit, float shift) {
    both(gate, up, out, count, [=](V g, V u) {
        const V most = broadcast(limit), a = select(g > most, most, g), b = select(u > most, most, select(u < -most, -most, u));
        return a / (1.f + exponential(-(alpha * a))) * (b + shift);
    });
}

static void soft_cap(float *x, float cap, std::int64_t count) {
    each(x, x, count, [=](V v) { return cap * hyperbolic_tangent(v / cap); });
}

static void clamp(float *x, float low, float high, std::int64_t count) {
    each(x, x, count, [=](V v) { return select(v < low, broadcast(low), select(v > high, broadcast(high), v)); });
}

static void multiply(const float *a, const float *b, float *out, std::int64_t count) {
    for (std::int64_t j = 0; j < count; ++j) out[j] = a[j] * b[j];
}

extern const Gates gates;
const Gates gates = {activate, gate, clamped_gate, soft_cap, clamp, multiply};

}  // namespace quantmill::QM_LEVEL
