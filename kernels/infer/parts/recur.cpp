// The parts of a layer that carry a state from token to token: short convolutions, the scan of Mamba 2, and gated delta nets.
#include <algorithm>
#include <cmath>

#include "infer/model.h"

namespace quantmill::infer {

// What the part makes of normed rows, but for its last matrix: in `passed_`.
void Model::recur(int thread, int index, const Source &from, std::int64_t n) {
    Layer &layer = layers_[std::size_t(index)];
    const Recurrence &r = config.recurrence;
    const RecurrentKernels &own = *kernels.recurrent;
    const std::int64_t inner = r.inner, heads = r.heads, keys = r.groups * r.states, stride = layer.in.weights.rows;
    const bool scans = r.kind == Recurrence::scan;
    float *made = made_.as<float>(), *gates = gates_.as<float>(), *convolved = convolved_.as<float>(), *passed = passed_.as<float>();
    float *beta = beta_.as<float>(), *alpha = alpha_.as<float>(), *along = along_.as<float>();
    float *dt = dt_.as<float>(), *decay = decay_.as<float>();
    const Use first = {&layer.in, made, stride};
    if (r.kind == Recurrence::delta) {
        const Use gate = {&layer.in_gate, gates, inner};
        product(thread, {first, gate, {&layer.beta, beta, heads}, {&layer.alpha, alpha, heads}}, from, n, false);
    } else {
        product(thread, {first}, from, n, false);
    }
    Convolution c = {n, config.width, r.taps, stride, made + 2 * config.width, made, made + config.width, layer.conv.data(), nullptr,
                     false, layer.past.as<float>(), passed};
    if (r.kind != Recurrence::convolution) {
        c.channels = inner + 2 * keys, c.x = made + (scans ? inner : 0), c.before = c.behind = nullptr;
        c.bias = layer.conv_bias.empty() ? nullptr : layer.conv_bias.data(), c.activated = true, c.out = convolved;
    }
    // Beside the channels' pieces, one that makes steps of all tokens.
    const std::int64_t pieces = (c.channels + CHANNELS - 1) / CHANNELS;
    pool.share(thread, pieces + (c.activated ? 1 : 0), [&](std::int64_t i) {
        if (i < pieces) return own.convolve(c, i * CHANNELS, std::min(c.channels, (i + 1) * CHANNELS));
        for (std::int64_t t = 0; t < n; ++t) {
            const float *raw = scans ? made + t * stride + inner + c.channels : alpha + t * heads;
            own.steps(raw, layer.step_bias.data(), layer.decay.data(), heads, dt + t * heads, decay + t * heads);
            if (!scans) kernels.gate(beta + t * heads, nullptr, beta + t * heads, heads, {Gate::sigmoid, 0, 0});
        }
    });
    if (r.kind == Recurrence::convolution) return;
    const std::int64_t dims = inner / heads, parts = (dims + MOST_TOGETHER - 1) / MOST_TOGETHER;
    const auto by_columns = [&](auto work) {  // work(head, first, count)
        pool.share(thread, heads * parts, [&](std::int64_t i) {
            const std::int64_t at = i % parts * MOST_TOGETHER;
            work(i / parts, at, std::min<std::int64_t>(MOST_TOGETHER, dims - at));
        });
    };
    if (scans) {
        const Scan s = {n, heads, dims, r.groups, r.states, c.channels, convolved, convolved + inner, convolved + inner + keys, dt,
                        decay, layer.direct.data(), layer.state.as<float>(), passed};
        by_columns([&](std::int64_t head, std::int64_t at, std::int64_t count) { own.scan(s, head, at, count); });
        const std::int64_t group = inner / r.groups;
        return pool.share(thread, n * r.groups, [&](std::int64_t i) {
            const std::int64_t column = i % r.groups * group;
            float *x = passed + i / r.groups * inner + column;
            kernels.gate(made + i / r.groups * stride + column, x, x, group, {Gate::silu, 0, 0});
            if (!layer.inner_norm.empty()) kernels.norm(x, layer.inner_norm.data() + column, config.eps, group, x);
        }, n == 1 ? 1 : r.groups);
    }
    const float scale = 1.f / std::sqrt(float(r.states));
    pool.share(thread, n * r.groups, [&](std::int64_t i) {
        float *q = convolved + i / r.groups * c.channels + i % r.groups * r.states;
        along[i] = own.norm_pair(q, q + keys, r.states, config.eps, scale);
    }, n == 1 ? 4 : r.groups);
    const Delta d = {n, r.groups, heads, r.states, dims, c.channels, r.interleaved, convolved, convolved + keys,
                     convolved + 2 * keys, decay, beta, along, layer.state.as<float>(), passed};
    by_columns([&](std::int64_t head, std::int64_t at, std::int64_t count) { own.delta(d, head, at, count); });
    pool.share(thread, n * heads, [&](std::int64_t i) {
        float *x = passed + i * dims;
        kernels.norm(x, layer.inner_norm.data(), config.eps, dims, x);
        kernels.gate(gates + i * dims, x, x, dims, {Gate::silu, 0, 0});
    }, n == 1 ? 4 : heads);
}

}  // namespace quantmill::infer
