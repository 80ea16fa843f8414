// The evaluation of some tokens. Every thread walks through forward() and does its part of each phase; they meet between phases.
#include <algorithm>
#include <cmath>

#include "infer/model.h"

namespace quantmill::infer {

void Model::norm(const float *x, const Vector &weights, float *out) const {
    (config.layer_norm ? kernels.layer_norm : kernels.norm)(x, weights.data(), config.eps, std::int64_t(weights.size()), out);
}

// Rows of activations made ready for the matrices that take them; `last` is behind the tiles.
void Model::ready(int thread, const Source &from, const Inputs &to, std::int64_t first, std::int64_t last) {
    const Activations &all = to.integers;
    const std::int64_t n = all.tokens, cols = all.cols;
    const float *x = from.x;
    if (from.norm && !from.norm->empty()) {
        float *normed = n == 1 ? threads_[std::size_t(thread)].row.as<float>() : normed_.as<float>();
        for (std::int64_t t = first * all.tile; t < std::min(n, last * all.tile); ++t) {
            norm(x + t * cols, *from.norm, normed + t * cols);
        }
        x = normed;
    }
    if (to.any_integers) kernels.quantize(x, cols, to.integers, first, last);
    if (to.any_floats) kernels.quantize(x, cols, to.floats, first, last);
}

// The activations of a product. For one token every thread makes them for itself, when it takes the first unit of the product: that
// is cheaper than to wait for each other, and what they are made from stays as it is until that unit is done.
Model::Inputs Model::activate(int thread, std::initializer_list<Use> uses, const Source &from, std::int64_t n) {
    const std::int64_t cols = uses.begin()->matrix->weights.cols, tile = n == 1 || !repack ? 1 : kernels.tokens;
    const Room &room = n == 1 ? threads_[std::size_t(thread)].room : *room_;
    Inputs inputs = {room.of(n, cols, tile, planes_), room.of(n, cols, tile, 0), false, false, n > 1};
    for (const Use &use : uses) (use.matrix->weights.form->scale == Scale::none ? inputs.any_floats : inputs.any_integers) = true;
    if (n > 1) {
        pool.share(thread, inputs.integers.tiles(),
                   [&](std::int64_t i) { ready(thread, from, inputs, i, i + 1); });
    }
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

// Panels of a unit: few where there are many tokens, enough to be worth taking where there is one.
std::int64_t Model::chunk_of(const Matrix &matrix, std::int64_t n) const {
    if (n > 1) return 2;
    return std::max<std::int64_t>(1, std::min<std::int64_t>(32, matrix.weights.panels() / (4 * pool.threads())));
}

void Model::product(int thread, std::initializer_list<Use> uses, const Source &from, std::int64_t n, bool add) {
    Inputs inputs = activate(thread, uses, from, n);
    std::int64_t total = 0;
    for (const Use &use : uses) {
        const std::int64_t chunk = chunk_of(*use.matrix, n);
        total += (use.matrix->weights.panels() + chunk - 1) / chunk;
    }
    pool.share(thread, total, [&](std::int64_t i) {
        if (!inputs.made) ready(thread, from, inputs, 0, 1);
        inputs.made = true;
        for (const Use &use : uses) {
            const std::int64_t chunk = chunk_of(*use.matrix, n), panels = use.matrix->weights.panels();
            const std::int64_t count = (panels + chunk - 1) / chunk;
            if (i < count) return multiply(thread, use, inputs, add, i * chunk, std::min(panels, (i + 1) * chunk));
            i -= count;
        }
    });
}

// Adds what a part of the layer made of a token to the stream of activations, through what the model has there.
void Model::settle(float *change, std::int64_t token, const Vector &bias, const Vector &after) const {
    const std::int64_t width = config.width;
    float *stream = x_.as<float>() + token * width;
    if (!bias.empty()) {
        for (std::int64_t i = 0; i < width; ++i) change[i] += bias[std::size_t(i)];
    }
    if (!after.empty()) norm(change, after, change);
    if (config.residual_scale != 1) {
        for (std::int64_t i = 0; i < width; ++i) change[i] *= config.residual_scale;
    }
    for (std::int64_t i = 0; i < width; ++i) stream[i] += change[i];
}

// Adds a product to the stream.
void Model::join(int thread, const Matrix &matrix, const float *x, std::int64_t n, const Vector &bias, const Vector &after) {
    float *stream = x_.as<float>();
    const std::int64_t width = config.width;
    if (bias.empty() && after.empty() && config.residual_scale == 1) {
        return product(thread, {{&matrix, stream, width}}, {x, nullptr}, n, true);
    }
    float *out = after_.as<float>();
    product(thread, {{&matrix, out, width}}, {x, nullptr}, n, false);
    pool.share(thread, n, [&](std::int64_t t) { settle(out + t * width, t, bias, after); });
}

// Biases and norms of queries and of keys, all heads of a token together.
void Model::norm_heads(int thread, const Layer &layer, std::int64_t n) {
    pool.share(thread, 2 * n, [&](std::int64_t unit) {
        const bool query = unit % 2 == 0;
        const std::int64_t cols = (query ? config.heads : config.kv_heads) * config.head_dim;
        float *x = (query ? q_ : k_).as<float>() + unit / 2 * cols;
        const Vector &bias = query ? layer.q_bias : layer.k_bias, &by = query ? layer.q_norm : layer.k_norm;
        for (std::int64_t i = 0; i < cols && !bias.empty(); ++i) x[i] += bias[std::size_t(i)];
        if (!by.empty()) kernels.norm(x, by.data(), config.eps, cols, x);
    });
}

// Biases, norms and rotations of the heads; keys and values go to the cache.
void Model::place_heads(int thread, int index, std::int64_t n, std::int64_t position) {
    Layer &layer = layers_[std::size_t(index)];
    const std::int64_t dims = config.head_dim, half = config.rotated / 2, context = (config.context + ROWS - 1) / ROWS * ROWS;
    const std::int64_t units = config.heads + 2 * config.kv_heads;
    const bool own = layer.kind.window > 0 && !local_cosines.empty(), whole = config.head_norm == Config::whole;
    const Vector &turn = own ? local_cosines : cosines, &rise = own ? local_sines : sines;
    pool.share(thread, n * units, [&](std::int64_t unit) {
        const std::int64_t t = unit / units, at = position + t;
        std::int64_t head = unit % units;
        const bool query = head < config.heads, key = !query && head < config.heads + config.kv_heads;
        if (!query) head -= config.heads + (key ? 0 : config.kv_heads);
        const Memory &from = query ? q_ : key ? k_ : v_;
        float *x = from.as<float>() + (t * (query ? config.heads : config.kv_heads) + head) * dims;
        const Vector &bias = query ? layer.q_bias : key ? layer.k_bias : layer.v_bias;
        if (!bias.empty() && (!whole || (!query && !key))) {
            for (std::int64_t i = 0; i < dims; ++i) x[i] += bias[std::size_t(head * dims + i)];
        }
        if (!query && !key) {
            kernels.store_value(x, dims, layer.values.as<std::uint16_t>() + head * context * dims, at);
            return;
        }
        const Vector &norm = query ? layer.q_norm : layer.k_norm;
        if (!norm.empty() && config.head_norm == Config::first) kernels.norm(x, norm.data(), config.eps, dims, x);
        if (layer.kind.turns) kernels.rotate(x, turn.data() + at * half, rise.data() + at * half, half, config.halves_apart);
        if (!norm.empty() && config.head_norm == Config::turned) kernels.norm(x, norm.data(), config.eps, dims, x);
        if (query && layer.kind.tempers) {
            const std::int64_t steps = (at + config.temper_first) / config.temper_step;
            const float factor = std::log(float(steps) + 1.f) * config.temper_scale + 1.f;
            for (std::int64_t i = 0; i < dims; ++i) x[i] *= factor;
        }
        if (key) kernels.store_key(x, dims, layer.keys.as<std::uint16_t>() + head * context * dims, at);
    }, n == 1 ? 4 : units);
}

void Model::attend(int thread, int index, std::int64_t n, std::int64_t position) {
    Layer &layer = layers_[std::size_t(index)];
    const std::int64_t dims = config.head_dim, wide = config.heads * dims, context = (config.context + ROWS - 1) / ROWS * ROWS;
    const std::int64_t values = config.value_dim(), made = config.heads * values;
    const std::int64_t shared = config.heads / config.kv_heads;
    const std::int64_t chunk = config.chunked ? layer.kind.window : 0, window = chunk ? 0 : layer.kind.window;
    const auto heads_of = [&](std::int64_t head, std::int64_t first) {
        const std::int64_t at = head / shared * context + first;
        const std::uint16_t *key = layer.keys.as<std::uint16_t>() + at * dims;
        const std::uint16_t *value = layer.values.as<std::uint16_t>() + at * values;
        return Heads{key, value, dims, values, config.attention_scale, config.score_cap,
                     layer.sinks.empty() ? nullptr : layer.sinks.data() + head};
    };
    float *q = q_.as<float>(), *out = mixed_.as<float>(), *scores = threads_[std::size_t(thread)].scores.as<float>();
    const std::int64_t begin = chunk ? position / chunk * chunk : 0;  // of what a token at that position sees
    // The heads that share keys read them together, where that leaves no thread idle; all heads of a compressed key do, by some.
    std::int64_t together = shared;
    if (config.compressed.rank) together = std::min<std::int64_t>(6, (shared + pool.threads() - 1) / pool.threads());
    if (n == 1 && (config.compressed.rank || config.kv_heads % pool.threads() == 0)) {
        return pool.share(thread, (config.heads + together - 1) / together, [&](std::int64_t i) {
            const std::int64_t head = i * together, count = std::min(together, config.heads - head);
            kernels.attend(heads_of(head, begin), q + head * dims, dims, count, position - begin, true, window, out + head * values,
                           values, scores);
        });
    }
    // Queries of several tokens read keys together; the last ones, which see most, come first.
    const std::int64_t some = n == 1 ? 1 : 4 * kernels.tokens, chunks = (n + some - 1) / some;
    pool.share(thread, chunks * config.heads, [&](std::int64_t i) {
        const std::int64_t t = (chunks - 1 - i / config.heads) * some, head = i % config.heads, at = t * wide + head * dims;
        const std::int64_t result = t * made + head * values;
        const std::int64_t end = std::min(n, t + some);
        for (std::int64_t from = t; from < end;) {  // a chunk's tokens see nothing before it
            const std::int64_t start = chunk ? (position + from) / chunk * chunk : 0;
            const std::int64_t to = chunk ? std::min(end, start + chunk - position) : end, own = at + (from - t) * wide;
            kernels.attend(heads_of(head, start), q + own, wide, to - from, position + from - start, false, window,
                           out + result + (from - t) * made, made, scores);
            from = to;
        }
    });
}

// What attention made, as far as its gates let it through.
static void let_through(const InferKernels &kernels, const float *gate, float *made, std::int64_t n) {
    kernels.gate(gate, made, made, n, {Gate::sigmoid, 0, 0});
}

void Model::feed(int thread, const Feed &part, const Source &from, std::int64_t n) {
    const bool gated = part.gate.given();
    const Matrix &first_matrix = gated ? part.gate : part.up;
    const std::int64_t hidden = part.hidden, panels = first_matrix.weights.panels(), chunk = chunk_of(first_matrix, n);
    float *gate = gate_.as<float>(), *up = up_.as<float>();
    const Use uses[2] = {{&first_matrix, gate, hidden}, {&part.up, up, hidden}};
    const Vector *biases[2] = {gated ? part.gate_bias : part.up_bias, part.up_bias};
    const int halves = gated ? 2 : 1;
    Inputs inputs = activate(thread, {uses[0], uses[1]}, from, n);
    pool.share(thread, (panels + chunk - 1) / chunk, [&](std::int64_t i) {
        if (!inputs.made) ready(thread, from, inputs, 0, 1);
        inputs.made = true;
        const std::int64_t first = i * chunk, last = std::min(panels, first + chunk);
        for (int half = 0; half < halves; ++half) multiply(thread, uses[half], inputs, false, first, last);
        const std::int64_t row = first * ROWS, count = std::min(hidden, last * ROWS) - row;
        for (std::int64_t t = 0; t < n; ++t) {
            const std::int64_t at = t * hidden + row;
            for (int half = 0; half < halves; ++half) {
                if (!biases[half] || biases[half]->empty()) continue;
                for (std::int64_t j = 0; j < count; ++j) uses[half].out[at + j] += (*biases[half])[std::size_t(row + j)];
            }
            kernels.gate(gate + at, gated ? up + at : nullptr, gate + at, count, config.gate);
        }
    });
}

void Model::forward(int thread, const std::int32_t *tokens, std::int64_t n, std::int64_t position, float *logits, bool all) {
    float *x = x_.as<float>();
    const std::int64_t width = config.width, row = width / embedding_->block * embedding_->size;
    pool.share(thread, n, [&](std::int64_t t) {
        embedding_->dequantize(embedding_data_ + tokens[t] * row, x + t * width, width);
        for (std::int64_t i = 0; i < width; ++i) x[t * width + i] *= config.embedding_scale;
    });
    const std::int64_t wide = config.heads * config.head_dim, narrow = config.kv_heads * config.head_dim;
    for (int i = 0; i < int(config.layers); ++i) {
        const Layer &layer = layers_[std::size_t(i)];
        Source seen = {x, &layer.attention_norm}, fed = {x, &layer.feed_norm};
        if (config.parallel) {
            float *kept = kept_.as<float>();
            pool.share(thread, n, [&](std::int64_t t) { norm(x + t * width, layer.attention_norm, kept + t * width); });
            seen = fed = {kept, nullptr};
        }
        if (layer.kind.attends && config.compressed.rank) {
            attend_compressed(thread, i, seen, n, position);
        } else if (layer.kind.attends) {
            const Use q = {&layer.q, q_.as<float>(), wide}, k = {&layer.k, k_.as<float>(), narrow};
            const Use v = {&layer.v, v_.as<float>(), narrow};
            const bool gated = layer.q_gate.given();
            if (gated) product(thread, {q, k, v, {&layer.q_gate, q_gate_.as<float>(), wide}}, seen, n, false);
            else product(thread, {q, k, v}, seen, n, false);
            if (config.head_norm == Config::whole) norm_heads(thread, layer, n);
            place_heads(thread, i, n, position);
            attend(thread, i, n, position);
            if (gated) {
                pool.share(thread, n, [&](std::int64_t t) {
                    let_through(kernels, q_gate_.as<float>() + t * wide, mixed_.as<float>() + t * wide, wide);
                });
            }
        }
        if (layer.kind.recurs) recur(thread, i, seen, n);
        const float *attended = (config.compressed.rank ? values_ : mixed_).as<float>();
        if (layer.kind.attends) join(thread, layer.o, attended, n, layer.o_bias, layer.after_attention);
        if (layer.kind.recurs) join(thread, layer.out, passed_.as<float>(), n, {}, {});
        if (!layer.kind.attends && !layer.kind.recurs) fed = seen;
        if (layer.kind.mixture) {
            feed_experts(thread, layer, fed, n);
            continue;
        }
        if (!layer.kind.feeds) continue;
        feed(thread, {layer.gate, layer.up, &layer.gate_bias, &layer.up_bias, config.hidden}, fed, n);
        join(thread, layer.down, gate_.as<float>(), n, layer.down_bias, layer.after_feed);
    }
    if (!logits) return;
    const std::int64_t vocabulary = config.vocabulary, skipped = all ? 0 : n - 1;
    product(thread, {{&output, logits, vocabulary}}, {x + skipped * width, &output_norm}, n - skipped, false);
    if (config.logit_scale == 1 && config.logit_cap == 0) return;
    constexpr std::int64_t some = 4096;
    const std::int64_t total = (n - skipped) * vocabulary;
    pool.share(thread, (total + some - 1) / some, [&](std::int64_t i) {
        kernels.limit(logits + i * some, std::min(some, total - i * some), config.logit_scale, config.logit_cap);
    });
}

void Model::evaluate(const std::int32_t *tokens, std::int64_t count, std::int64_t position, float *logits, bool all) {
    for (Layer &layer : layers_) {
        if (position > 0 || !layer.kind.recurs) continue;
        std::fill_n(layer.past.data(), layer.past.size(), std::uint8_t(0));
        std::fill_n(layer.state.data(), layer.state.size(), std::uint8_t(0));
    }
    for (std::int64_t done = 0; done < count; done += BATCH) {
        const std::int64_t n = std::min(BATCH, count - done);
        float *to = all ? logits + done * config.vocabulary : done + n == count ? logits : nullptr;
        pool.run([=](int thread) { forward(thread, tokens + done, n, position + done, to, all); });
    }
}

}  // namespace quantmill::infer
