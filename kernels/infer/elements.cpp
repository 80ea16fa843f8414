// What happens to activations between products: norms, rotations, gates.
#include "infer/exponential.h"

namespace quantmill::QM_LEVEL {

void norm(const float *x, const float *weight, float eps, std::int64_t n, float *out) {
    V squares = {};
    std::int64_t i = 0;
    for (; i + W <= n; i += W) squares = fma(load<V>(x + i), load<V>(x + i), squares);
    float sum = across(squares);
    for (; i < n; ++i) sum += x[i] * x[i];
    const float scale = 1.f / __builtin_sqrtf(sum / float(n) + eps);
    for (i = 0; i < n; ++i) out[i] = x[i] * scale * weight[i];
}

void layer_norm(const float *x, const float *weight, float eps, std::int64_t n, float *out) {
    float sum = 0, squares = 0;
    for (std::int64_t i = 0; i < n; ++i) sum += x[i];
    const float mean = sum / float(n);
    for (std::int64_t i = 0; i < n; ++i) squares += (x[i] - mean) * (x[i] - mean);
    const float scale = 1.f / __builtin_sqrtf(squares / float(n) + eps);
    for (std::int64_t i = 0; i < n; ++i) out[i] = (x[i] - mean) * scale * weight[i];
}

void rotate(float *x, const float *cosines, const float *sines, std::int64_t half, bool halves_apart) {
    const std::int64_t step = halves_apart ? 1 : 2, apart = halves_apart ? half : 1;
    for (std::int64_t i = 0; i < half; ++i) {
        const float a = x[i * step], b = x[i * step + apart];
        x[i * step] = a * cosines[i] - b * sines[i];
        x[i * step + apart] = a * sines[i] + b * cosines[i];
    }
}

// x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))); (1 + tanh(y)) / 2 is 1 / (1 + exp(-2 y)).
QM_INLINE V gelu_of(V x) { return x / (1.f + exponential(-1.5957691216057308f * x * (1.f + 0.044715f * x * x))); }

// `up` is 1 where there is none.
template <class Function>
QM_INLINE void gate_by(const float *gate, const float *up, float *out, std::int64_t n, Function function) {
    for (std::int64_t i = 0; i < n; i += W) {
        const std::int64_t count = n - i < W ? n - i : W;
        V g = {}, u = splat(1.f);
        std::memcpy(&g, gate + i, std::size_t(count) * 4);
        if (up) std::memcpy(&u, up + i, std::size_t(count) * 4);
        const V v = function(g, u);
        std::memcpy(out + i, &v, std::size_t(count) * 4);
    }
}

void gate(const float *gate, const float *up, float *out, std::int64_t n, const Gate &how) {
    const float most = how.limit, alpha = how.alpha;
    switch (how.kind) {
        case Gate::silu: return gate_by(gate, up, out, n, [](V g, V u) { return silu(g) * u; });
        case Gate::gelu: return gate_by(gate, up, out, n, [](V g, V u) { return gelu_of(g) * u; });
        case Gate::relu_squared:
            return gate_by(gate, up, out, n, [](V g, V u) { return greater(g, V{}) * greater(g, V{}) * u; });
        case Gate::clamped:
            return gate_by(gate, up, out, n, [=](V g, V u) {
                g = lesser(g, splat(most)), u = greater(lesser(u, splat(most)), splat(-most));
                return g / (1.f + exponential(-alpha * g)) * (u + 1.f);
            });
        case Gate::sigmoid: return gate_by(gate, up, out, n, [](V g, V u) { return u / (1.f + exponential(-g)); });
    }
}

// cap * tanh(x * scale / cap); tanh(y) is 1 - 2 / (1 + exp(2 y)).
void limit(float *x, std::int64_t n, float scale, float cap) {
    for (std::int64_t i = 0; i < n; i += W) {
        const std::int64_t count = n - i < W ? n - i : W;
        V v = {};
        std::memcpy(&v, x + i, std::size_t(count) * 4);
        v *= scale;
        if (cap > 0) v = cap - 2.f * cap / (1.f + exponential(v * (2.f / cap)));
        std::memcpy(x + i, &v, std::size_t(count) * 4);
    }
}

std::int32_t read(const std::uint8_t *from, std::int64_t bytes) {
    constexpr int ABREAST_READ = 4;
    I found[ABREAST_READ] = {};
    for (std::int64_t i = 0; i < bytes; i += ABREAST_READ * std::int64_t(sizeof(I))) {
        QM_UNROLL
        for (int n = 0; n < ABREAST_READ; ++n) found[n] ^= load<I>(from + i + n * std::int64_t(sizeof(I)));
    }
    const I all = (found[0] ^ found[1]) ^ (found[2] ^ found[3]);
    std::int32_t result = 0;
    for (int i = 0; i < W; ++i) result ^= all[i];
    return result;
}

}  // namespace quantmill::QM_LEVEL
