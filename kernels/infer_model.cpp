// What a model holds: memory, matrices, names.
#include "infer_model.h"

#include <algorithm>

namespace quantmill::infer {

static std::int64_t rounded(std::int64_t count, std::int64_t to) { return (count + to - 1) / to * to; }

Matrix make_matrix(const InferKernels &kernels, Pool &pool, const Form &form, std::int64_t rows, std::int64_t cols,
                   const std::uint8_t *data, bool repack) {
    Matrix made;
    made.weights = {&form, rows, cols, data, repack};
    if (!repack) return made;
    made.memory = Memory(made.weights.panels() * panel_bytes(form, cols));
    std::uint8_t *panels = made.memory.data();
    made.weights.data = panels;
    const std::int64_t count = made.weights.panels();
    pool.run([=, &pool, &kernels, &form](int thread) {
        pool.share(thread, count, [&](std::int64_t i) { kernels.pack(form, rows, cols, data, panels, i, i + 1); });
    });
    return made;
}

Room::Room(std::int64_t tokens, std::int64_t cols, int planes, bool floats) {
    const std::int64_t most = rounded(tokens, MOST_TOKENS) + MOST_TOKENS, groups = cols / GROUP;
    bytes_ = Memory(most * cols * planes);
    scales_ = Memory(most * groups * 4);
    sums_ = Memory(most * groups * 12);
    counts_ = Memory(most * groups * 12);
    if (floats) floats_ = Memory(most * cols * 4);
}

Activations Room::of(std::int64_t tokens, std::int64_t cols, std::int64_t tile, int planes) const {
    return {tokens,           cols, tile, planes, bytes_.data(), scales_.as<float>(), sums_.as<float>(), counts_.as<std::int32_t>(),
            floats_.as<float>()};
}

Model::Model(const Config &given, const InferKernels &used, int threads, bool repacked, int planes)
    : config(given), kernels(used), repack(repacked), planes_(planes), layers_(std::size_t(given.layers)), pool(threads) {}

// The tensors of a layer, by the names that files give them.
static Matrix *matrix_of(Layer &layer, const std::string &name) {
    if (name == "attn_q") return &layer.q;
    if (name == "attn_k") return &layer.k;
    if (name == "attn_v") return &layer.v;
    if (name == "attn_output") return &layer.o;
    if (name == "ffn_gate") return &layer.gate;
    if (name == "ffn_up") return &layer.up;
    if (name == "ffn_down") return &layer.down;
    if (name == "ffn_gate_inp") return &layer.router;
    if (name == "ffn_gate_exps") return &layer.gates;
    if (name == "ffn_up_exps") return &layer.ups;
    if (name == "ffn_down_exps") return &layer.downs;
    return nullptr;
}

static Vector *vector_of(Layer &layer, const std::string &name) {
    if (name == "attn_norm") return &layer.attention_norm;
    if (name == "attn_q.bias") return &layer.q_bias;
    if (name == "attn_k.bias") return &layer.k_bias;
    if (name == "attn_v.bias") return &layer.v_bias;
    if (name == "attn_q_norm") return &layer.q_norm;
    if (name == "attn_k_norm") return &layer.k_norm;
    if (name == "post_attention_norm") return &layer.after_attention;
    if (name == "ffn_norm") return &layer.feed_norm;
    if (name == "post_ffw_norm") return &layer.after_feed;
    return nullptr;
}

// The layer that a name like "blk.3.attn_q" speaks of, and the rest of the name; null for other names.
static Layer *layer_of(std::vector<Layer> &layers, const std::string &name, std::string &rest) {
    if (name.compare(0, 4, "blk.") != 0) return nullptr;
    const std::size_t dot = name.find('.', 4);
    if (dot == std::string::npos || dot == 4 || dot > 4 + 6) return nullptr;
    std::size_t index = 0;
    for (std::size_t i = 4; i < dot; ++i) {
        if (name[i] < '0' || name[i] > '9') return nullptr;
        index = index * 10 + std::size_t(name[i] - '0');
    }
    rest = name.substr(dot + 1);
    return index < layers.size() ? &layers[index] : nullptr;
}

Matrix *Model::matrix(const std::string &name) {
    if (name == "output") return &output;
    std::string rest;
    Layer *layer = layer_of(layers_, name, rest);
    return layer ? matrix_of(*layer, rest) : nullptr;
}

Vector *Model::vector(const std::string &name) {
    if (name == "output_norm") return &output_norm;
    if (name == "cosines") return &cosines;
    if (name == "sines") return &sines;
    if (name == "local_cosines") return &local_cosines;
    if (name == "local_sines") return &local_sines;
    std::string rest;
    Layer *layer = layer_of(layers_, name, rest);
    return layer ? vector_of(*layer, rest) : nullptr;
}

std::string Model::missing() const {
    const Config &c = config;
    const std::int64_t wide = c.heads * c.head_dim, narrow = c.kv_heads * c.head_dim;
    const auto matrix = [](const Matrix &m, std::int64_t rows, std::int64_t cols) {
        return m.given() && m.weights.rows == rows && m.weights.cols == cols;
    };
    const auto vector = [](const Vector &v, std::int64_t size, bool needed) {
        return v.empty() ? !needed : std::int64_t(v.size()) == size;
    };
    if (!embedding_) return "token_embd.weight";
    if (!matrix(output, c.vocabulary, c.width)) return "output.weight";
    if (!vector(output_norm, c.width, true)) return "output_norm.weight";
    const std::int64_t angles = c.context * c.rotated / 2;
    for (const Vector *v : {&cosines, &sines}) {
        if (!vector(*v, angles, true)) return "cosines and sines";
    }
    for (const Vector *v : {&local_cosines, &local_sines}) {
        if (!vector(*v, angles, c.window > 0)) return "local_cosines and local_sines";
    }
    for (std::size_t i = 0; i < layers_.size(); ++i) {
        const Layer &l = layers_[i];
        const std::string place = "blk." + std::to_string(i) + ".";
        if (!matrix(l.q, wide, c.width)) return place + "attn_q.weight";
        if (!matrix(l.k, narrow, c.width)) return place + "attn_k.weight";
        if (!matrix(l.v, narrow, c.width)) return place + "attn_v.weight";
        if (!matrix(l.o, c.width, wide)) return place + "attn_output.weight";
        if (c.experts) {
            if (!matrix(l.router, c.experts, c.width)) return place + "ffn_gate_inp.weight";
            if (!matrix(l.gates, c.experts * c.hidden, c.width)) return place + "ffn_gate_exps.weight";
            if (!matrix(l.ups, c.experts * c.hidden, c.width)) return place + "ffn_up_exps.weight";
            if (!matrix(l.downs, c.experts * c.width, c.hidden)) return place + "ffn_down_exps.weight";
        } else {
            if (!matrix(l.gate, c.hidden, c.width)) return place + "ffn_gate.weight";
            if (!matrix(l.up, c.hidden, c.width)) return place + "ffn_up.weight";
            if (!matrix(l.down, c.width, c.hidden)) return place + "ffn_down.weight";
        }
        if (!vector(l.attention_norm, c.width, true)) return place + "attn_norm.weight";
        if (!vector(l.feed_norm, c.width, true)) return place + "ffn_norm.weight";
        if (!vector(l.q_bias, wide, false)) return place + "attn_q.bias";
        if (!vector(l.k_bias, narrow, false)) return place + "attn_k.bias";
        if (!vector(l.v_bias, narrow, false)) return place + "attn_v.bias";
        if (!vector(l.q_norm, c.head_dim, false)) return place + "attn_q_norm.weight";
        if (!vector(l.k_norm, c.head_dim, false)) return place + "attn_k_norm.weight";
        if (!vector(l.after_attention, c.width, false)) return place + "post_attention_norm.weight";
        if (!vector(l.after_feed, c.width, false)) return place + "post_ffw_norm.weight";
    }
    return "";
}

void Model::prepare() {
    const Config &c = config;
    const std::int64_t wide = c.heads * c.head_dim, narrow = c.kv_heads * c.head_dim;
    const std::int64_t cols = std::max(std::max(c.width, c.hidden), wide), context = rounded(c.context, ROWS);
    bool floats = output.weights.form->scale == Scale::none;
    for (Layer &l : layers_) {
        for (const Matrix *m : {&l.q, &l.k, &l.v, &l.o, &l.gate, &l.up, &l.down, &l.router, &l.gates, &l.ups, &l.downs}) {
            floats = floats || (m->given() && m->weights.form->scale == Scale::none);
        }
        l.keys = Memory(context * narrow * 2);
        l.values = Memory(context * narrow * 2);
    }
    const std::int64_t batch = std::min(BATCH, context);
    for (int thread = 0; thread < pool.threads(); ++thread) {
        // Enough for an unpacked panel of floats twice over, which is more than one of integers takes.
        threads_.push_back({Room(1, cols, planes_, floats), Memory(2 * 4 * ROWS * cols),
                            Memory(MOST_TOKENS * (context + 2 * ROWS) * 4), Memory(cols * 4)});
    }
    room_ = std::make_unique<Room>(batch, cols, planes_, floats);
    const auto room = [&](std::int64_t width) { return Memory(batch * width * 4); };
    x_ = room(c.width), normed_ = room(cols), q_ = room(wide), k_ = room(narrow), v_ = room(narrow), mixed_ = room(wide);
    after_ = room(c.width);
    if (c.experts) experts_ = std::make_unique<Experts>(c, batch, planes_, floats);
    else gate_ = room(c.hidden), up_ = room(c.hidden);
}

}  // namespace quantmill::infer
