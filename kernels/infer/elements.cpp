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

void rotate(float *x, const float *cosines, const float *sines, std::int64_t half, bool halves_apart) {
    const std::int64_t step = halves_apart ? 1 : 2, apart = halves_apart ? half : 1;
    for (std::int64_t i = 0; i < half; ++i) {
        const float a = x[i * step], b = x[i * step + apart];
        x[i * step] = a * cosines[i] - b * sines[i];
        x[i * step + apart] = a * sines[i] + b * cosines[i];
    }
}

QM_INLINE V silu(V x) { return x / (1.f + exponential(-x)); }

// x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))); (1 + tanh(y)) / 2 is 1 / (1 + exp(-2 y)).
QM_INLINE V gelu_of(V x) { return x / (1.f + exponential(-1.5957691216057308f * x * (1.f + 0.044715f * x * x))); }

void gate(const float *gate, const float *up, float *out, std::int64_t n, bool gelu) {
    for (std::int64_t i = 0; i < n; i += W) {
        const std::int64_t count = n - i < W ? n - i : W;
        V g = {}, u = {};
        std::memcpy(&g, gate + i, std::size_t(count) * 4);
        std::memcpy(&u, up + i, std::size_t(count) * 4);
        const V v = (gelu ? gelu_of(g) : silu(g)) * u;
        std::memcpy(out + i, &v, std::size_t(count) * 4);
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
