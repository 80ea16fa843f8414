// The evaluation of some tokens. Every thread walks through forward() and does its part of each phase; they meet between phases.
#include <algorithm>
#include <cstring>

#include "infer_model.h"

namespace quantmill::infer {

void Model::part(int thread, std::int64_t count, std::int64_t &first, std::int64_t &last) const {
    first = count * thread / pool.threads(), last = count * (thread + 1) / pool.threads();
}

template <class Work>
void Model::share(int thread, std::int64_t count, Work work) {
    std::atomic<std::int64_t> &next = counters_[std::size_t(threads_[std::size_t(thread)].phase++)];
    for (std::int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;) work(i);
    pool.meet();
}

// The activations that the matrices take. For one token every thread makes them for itself, which is cheaper than to meet.
Model::Inputs Model::activate(int thread, std::initializer_list<Use> uses, const float *x, std::int64_t n, const Vector *norm) {
    Thread &own = threads_[std::size_t(thread)];
    const std::int64_t cols = uses.begin()->matrix->weights.cols, tile = n == 1 || !repack ? 1 : kernels.tokens;
    bool floats = false, integers = false;
    for (const Use &use : uses) (use.matrix->weights.form->scale == Scale::none ? floats : integers) = true;
    const Room &room = n == 1 ? own.room : *room_;
    const Inputs inputs = {room.of(n, cols, tile, planes_), room.of(n, cols, tile, 0)};
    std::int64_t first = 0, last = inputs.integers.tiles();
    if (n > 1) part(thread, last, first, last);
    float *normed = n == 1 ? own.row.as<float>() : normed_.as<float>();
    if (norm) {
        for (std::int64_t t = first * tile; t < std::min(n, last * tile); ++t) {
            kernels.norm(x + t * cols, norm->data(), config.eps, cols, normed + t * cols);
        }
        x = normed;
    }
    if (integers) kernels.quantize(x, cols, inputs.integers, first, last);
    if (floats) kernels.quantize(x, cols, inputs.floats, first, last);
    if (n > 1) pool.meet();
    return inputs;
}

void Model::multiply(int thread, const Use &use, const Inputs &inputs, bool add, std::int64_t first, std::int64_t last) {
    const Weights &w = use.matrix->weights;
    const Activations &a = w.form->scale == Scale::none ? inputs.floats : inputs.integers;
    std::uint8_t *buffer = threads_[std::size_t(thread)].buffer.data();
    if (!w.repacked) kernels.multiply_plain(w, a, use.out, use.stride, add, first, last, buffer);
    else if (a.tile == 1) kernels.multiply_one(w, a, use.out, add, first, last);
    else kernels.multiply(w, a, use.out, use.stride, add, first, last, buffer);
}

// Panels that a thread takes at a time: few where there are many tokens, enough to be worth taking where there is one.
std::int64_t Model::chunk_of(const Matrix &matrix, std::int64_t n) const {
    if (n > 1) return 2;
    return std::max<std::int64_t>(1, std::min<std::int64_t>(32, matrix.weights.panels() / (4 * pool.threads())));
}

void Model::product(int thread, std::initializer_list<Use> uses, const float *x, std::int64_t n, const Vector *norm, bool add) {
    const Inputs inputs = activate(thread, uses, x, n, norm);
    std::int64_t total = 0;
    for (const Use &use : uses) {
        const std::int64_t chunk = chunk_of(*use.matrix, n);
        total += (use.matrix->weights.panels() + chunk - 1) / chunk;
    }
    share(thread, total, [&](std::int64_t i) {
        for (const Use &use : uses) {
            const std::int64_t chunk = chunk_of(*use.matrix, n), panels = use.matrix->weights.panels();
            const std::int64_t count = (panels + chunk - 1) / chunk;
            if (i < count) return multiply(thread, use, inputs, add, i * chunk, std::min(panels, (i + 1) * chunk));
            i -= count;
        }
    });
}

// Adds a product to the stream of activations, through a norm where the model has one there.
void Model::join(int thread, const Matrix &matrix, const float *x, std::int64_t n, const Vector &after) {
    float *stream = x_.as<float>();
    const std::int64_t width = config.width;
    if (after.empty()) return product(thread, {{&matrix, stream, width}}, x, n, nullptr, true);
    float *out = after_.as<float>();
    product(thread, {{&matrix, out, width}}, x, n, nullptr, false);
    std::int64_t first, last;
    part(thread, n, first, last);
    for (std::int64_t t = first; t < last; ++t) {
        kernels.norm(out + t * width, after.data(), config.eps, width, out + t * width);
        for (std::int64_t i = 0; i < width; ++i) stream[t * width + i] += out[t * width + i];
    }
    pool.meet();
}

// Biases, norms and rotations of the heads; keys and values go to the cache.
void Model::place_heads(int thread, int index, std::int64_t n, std::int64_t position) {
    Layer &layer = layers_[std::size_t(index)];
    const std::int64_t dims = config.head_dim, half = config.rotated / 2, context = (config.context + ROWS - 1) / ROWS * ROWS;
    const std::int64_t units = config.heads + 2 * config.kv_heads;
    const Vector &turn = local(index) ? local_cosines : cosines, &rise = local(index) ? local_sines : sines;
    std::int64_t first, last;
    part(thread, n * units, first, last);
    for (std::int64_t unit = first; unit < last; ++unit) {
        const std::int64_t t = unit / units, at = position + t;
        std::int64_t head = unit % units;
        const bool query = head < config.heads, key = !query && head < config.heads + config.kv_heads;
        if (!query) head -= config.heads + (key ? 0 : config.kv_heads);
        const Memory &from = query ? q_ : key ? k_ : v_;
        float *x = from.as<float>() + (t * (query ? config.heads : config.kv_heads) + head) * dims;
        const Vector &bias = query ? layer.q_bias : key ? layer.k_bias : layer.v_bias;
        if (!bias.empty()) {
            for (std::int64_t i = 0; i < dims; ++i) x[i] += bias[std::size_t(head * dims + i)];
        }
        if (!query && !key) {
            kernels.store_value(x, dims, layer.values.as<std::uint16_t>() + head * context * dims, at);
            continue;
        }
        const Vector &norm = query ? layer.q_norm : layer.k_norm;
        if (!norm.empty()) kernels.norm(x, norm.data(), config.eps, dims, x);
        kernels.rotate(x, turn.data() + at * half, rise.data() + at * half, half, config.halves_apart);
        if (key) kernels.store_key(x, dims, layer.keys.as<std::uint16_t>() + head * context * dims, at);
    }
    pool.meet();
}

void Model::attend(int thread, int index, std::int64_t n, std::int64_t position) {
    Layer &layer = layers_[std::size_t(index)];
    const std::int64_t dims = config.head_dim, wide = config.heads * dims, context = (config.context + ROWS - 1) / ROWS * ROWS;
    const std::int64_t shared = config.heads / config.kv_heads, window = local(index) ? config.window : 0;
    const auto heads_of = [&](std::int64_t kv) {
        return Heads{layer.keys.as<std::uint16_t>() + kv * context * dims, layer.values.as<std::uint16_t>() + kv * context * dims,
                     dims, config.attention_scale, config.softcap};
    };
    float *q = q_.as<float>(), *out = mixed_.as<float>(), *scores = threads_[std::size_t(thread)].scores.as<float>();
    if (n == 1 && config.kv_heads % pool.threads() == 0) {  // the heads that share keys read them together
        return share(thread, config.kv_heads, [&](std::int64_t kv) {
            const std::int64_t at = kv * shared * dims;
            kernels.attend(heads_of(kv), q + at, dims, shared, position, true, window, out + at, dims, scores);
        });
    }
    // Queries of several tokens read keys together; the last ones, which see most, come first.
    const std::int64_t some = n == 1 ? 1 : 4 * kernels.tokens, chunks = (n + some - 1) / some;
    share(thread, chunks * config.heads, [&](std::int64_t i) {
        const std::int64_t t = (chunks - 1 - i / config.heads) * some, head = i % config.heads, at = t * wide + head * dims;
        kernels.attend(heads_of(head / shared), q + at, wide, std::min(some, n - t), position + t, false, window, out + at, wide,
                       scores);
    });
}

void Model::feed(int thread, const Layer &layer, std::int64_t n) {
    const std::int64_t hidden = config.hidden, panels = layer.gate.weights.panels(), chunk = chunk_of(layer.gate, n);
    float *gate = gate_.as<float>(), *up = up_.as<float>();
    const Use uses[2] = {{&layer.gate, gate, hidden}, {&layer.up, up, hidden}};
    const Inputs inputs = activate(thread, {uses[0], uses[1]}, x_.as<float>(), n, &layer.feed_norm);
    share(thread, (panels + chunk - 1) / chunk, [&](std::int64_t i) {
        const std::int64_t first = i * chunk, last = std::min(panels, first + chunk);
        for (const Use &use : uses) multiply(thread, use, inputs, false, first, last);
        const std::int64_t row = first * ROWS, count = std::min(hidden, last * ROWS) - row;
        for (std::int64_t t = 0; t < n; ++t) {
            const std::int64_t at = t * hidden + row;
            kernels.gate(gate + at, up + at, gate + at, count, config.gelu);
        }
    });
}

void Model::forward(int thread, const std::int32_t *tokens, std::int64_t n, std::int64_t position, float *logits, bool all) {
    threads_[std::size_t(thread)].phase = 0;
    float *x = x_.as<float>();
    const std::int64_t width = config.width, row = width / embedding_->block * embedding_->size;
    std::int64_t first, last;
    part(thread, n, first, last);
    for (std::int64_t t = first; t < last; ++t) {
        embedding_->dequantize(embedding_data_ + tokens[t] * row, x + t * width, width);
        for (std::int64_t i = 0; i < width; ++i) x[t * width + i] *= config.embedding_scale;
    }
    pool.meet();
    const std::int64_t wide = config.heads * config.head_dim, narrow = config.kv_heads * config.head_dim;
    for (int i = 0; i < int(config.layers); ++i) {
        const Layer &layer = layers_[std::size_t(i)];
        product(thread, {{&layer.q, q_.as<float>(), wide}, {&layer.k, k_.as<float>(), narrow}, {&layer.v, v_.as<float>(), narrow}},
                x, n, &layer.attention_norm, false);
        place_heads(thread, i, n, position);
        attend(thread, i, n, position);
        join(thread, layer.o, mixed_.as<float>(), n, layer.after_attention);
        feed(thread, layer, n);
        join(thread, layer.down, gate_.as<float>(), n, layer.after_feed);
    }
    if (!logits) return;
    const std::int64_t vocabulary = config.vocabulary, skipped = all ? 0 : n - 1;
    product(thread, {{&output, logits, vocabulary}}, x + skipped * width, n - skipped, &output_norm, false);
}

void Model::evaluate_batch(const std::int32_t *tokens, std::int64_t n, std::int64_t position, float *logits, bool all) {
    for (std::int64_t i = 0; i < config.layers * 8 + 8; ++i) counters_[std::size_t(i)].store(0, std::memory_order_relaxed);
    pool.run([&](int thread) { forward(thread, tokens, n, position, logits, all); });
}

void Model::evaluate(const std::int32_t *tokens, std::int64_t count, std::int64_t position, float *logits, bool all) {
    for (std::int64_t done = 0; done < count; done += BATCH) {
        const std::int64_t n = std::min(BATCH, count - done);
        float *to = all ? logits + done * config.vocabulary : done + n == count ? logits : nullptr;
        evaluate_batch(tokens + done, n, position + done, to, all);
    }
}

}  // namespace quantmill::infer
