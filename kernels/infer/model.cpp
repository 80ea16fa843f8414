// What a model holds: memory, matrices, names.
#include "infer/model.h"

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

Model::Model(const Config &given, const std::vector<Kind> &kinds, const InferKernels &used, int threads, bool repacked, int planes)
    : config(given), kernels(used), repack(repacked), planes_(planes), layers_(std::size_t(given.layers)), pool(threads) {
    for (std::size_t i = 0; i < layers_.size(); ++i) {
        layers_[i].kind = kinds[i];
        const std::size_t heads = config.compressed.rank && kinds[i].attends ? std::size_t(config.heads) : 0;
        layers_[i].k_b.resize(heads), layers_[i].v_b.resize(heads);
    }
}

// Sizes as a configuration gives them.
using Size = std::int64_t (*)(const Config &);
static std::int64_t width(const Config &c) { return c.width; }
static std::int64_t hidden(const Config &c) { return c.hidden; }
static std::int64_t wide(const Config &c) { return c.heads * c.head_dim; }
static std::int64_t narrow(const Config &c) { return c.kv_heads * c.head_dim; }
static std::int64_t experts(const Config &c) { return c.experts; }
static std::int64_t own_hidden(const Config &c) { return c.expert_hidden; }
static std::int64_t shared_hidden(const Config &c) { return c.shared_hidden; }
static std::int64_t all_hidden(const Config &c) { return c.experts * c.expert_hidden; }
static std::int64_t all_width(const Config &c) { return c.experts * c.width; }

static std::int64_t channels(const Config &c) {
    const Recurrence &r = c.recurrence;
    return r.kind == Recurrence::convolution ? c.width : r.inner + 2 * r.groups * r.states;
}
static std::int64_t inner(const Config &c) { return c.recurrence.inner; }
static std::int64_t state_heads(const Config &c) { return c.recurrence.heads; }
static std::int64_t made(const Config &c) {
    switch (c.recurrence.kind) {
        case Recurrence::none: return 0;
        case Recurrence::convolution: return 3 * c.width;
        case Recurrence::scan: return inner(c) + channels(c) + state_heads(c);
        case Recurrence::delta: return channels(c);
    }
    return 0;
}
static std::int64_t taps(const Config &c) { return c.recurrence.taps * channels(c); }
static std::int64_t inner_normed(const Config &c) {
    return c.recurrence.kind == Recurrence::delta ? inner(c) / state_heads(c) : inner(c);
}

static std::int64_t heads(const Config &c) { return c.heads; }
static std::int64_t queried(const Config &c) { return c.heads * (c.compressed.rank ? c.compressed.key : c.head_dim); }
static std::int64_t attended(const Config &c) { return c.heads * (c.compressed.rank ? c.compressed.values : c.head_dim); }
static std::int64_t query_rank(const Config &c) { return c.compressed.query_rank; }
static std::int64_t rank(const Config &c) { return c.compressed.rank; }
static std::int64_t q_normed(const Config &c) { return c.head_norm == Config::whole ? wide(c) : c.head_dim; }
static std::int64_t k_normed(const Config &c) { return c.head_norm == Config::whole ? narrow(c) : c.head_dim; }

// The tensors of a layer, by the names that most files give them without ".weight", and their shapes. The norms before and behind a
// part have one name each, whatever a file calls them.
enum class In {
    attending, queries, compressed, low_queries, keys,  // attention
    convolved, scanned, delta, recurrent,
    dense, gated, mixture, gated_mixture, shared, gated_shared,  // what feeds forward
    never,
};
static bool has(In which, const Layer &layer, const Config &c) {
    const Kind &kind = layer.kind;
    const auto is = [&](auto recurrence) { return kind.recurs && c.recurrence.kind == recurrence; };
    switch (which) {
        case In::attending: return kind.attends;
        case In::queries: return kind.attends && !c.compressed.query_rank;
        case In::compressed: return kind.attends && c.compressed.rank;
        case In::low_queries: return kind.attends && c.compressed.query_rank;
        case In::keys: return kind.attends && !c.compressed.rank;
        case In::dense: return kind.feeds && !kind.mixture;
        case In::gated: return c.gated && kind.feeds && !kind.mixture;
        case In::mixture: return kind.mixture;
        case In::gated_mixture: return c.gated && kind.mixture;
        case In::shared: return layer.shared_up.given();
        case In::gated_shared: return c.gated && layer.shared_up.given();
        case In::convolved: return is(Recurrence::convolution);
        case In::scanned: return is(Recurrence::scan);
        case In::delta: return is(Recurrence::delta);
        case In::recurrent: return is(Recurrence::scan) || is(Recurrence::delta);
        case In::never: return false;
    }
    return false;
}
static bool before_attention(const Layer &, const Config &c) { return c.attention_normed; }
static bool before_feed(const Layer &l, const Config &c) {
    return c.feed_normed && l.kind.feeds && (l.kind.attends || l.kind.recurs);
}
template <In WHICH>
static bool in(const Layer &layer, const Config &c) { return has(WHICH, layer, c); }
constexpr auto never = in<In::never>;

static const struct {
    const char *name;
    Matrix Layer::*at;
    In layers;
    Size rows, cols;
} MATRICES[] = {
    {"attn_q", &Layer::q, In::queries, queried, width},
    {"attn_k", &Layer::k, In::keys, narrow, width},
    {"attn_v", &Layer::v, In::keys, narrow, width},
    {"attn_output", &Layer::o, In::attending, width, attended},
    {"attn_q_a", &Layer::q_a, In::low_queries, query_rank, width},
    {"attn_q_b", &Layer::q_b, In::low_queries, queried, query_rank},
    {"attn_kv_a_mqa", &Layer::kv_a, In::compressed, narrow, width},
    {"attn_q_gate", &Layer::q_gate, In::never, wide, width},
    {"ffn_gate_inp", &Layer::router, In::mixture, experts, width},
    {"ffn_gate_exps", &Layer::gates, In::gated_mixture, all_hidden, width},
    {"ffn_up_exps", &Layer::ups, In::mixture, all_hidden, width},
    {"ffn_down_exps", &Layer::downs, In::mixture, all_width, own_hidden},
    {"ffn_gate_shexp", &Layer::shared_gate, In::gated_shared, shared_hidden, width},
    {"ffn_up_shexp", &Layer::shared_up, In::shared, shared_hidden, width},
    {"ffn_down_shexp", &Layer::shared_down, In::shared, width, shared_hidden},
    {"ffn_gate", &Layer::gate, In::gated, hidden, width},
    {"ffn_up", &Layer::up, In::dense, hidden, width},
    {"ffn_down", &Layer::down, In::dense, width, hidden},
    {"shortconv.in_proj", &Layer::in, In::convolved, made, width},
    {"shortconv.out_proj", &Layer::out, In::convolved, width, width},
    {"ssm_in", &Layer::in, In::scanned, made, width},
    {"attn_qkv", &Layer::in, In::delta, made, width},
    {"attn_gate", &Layer::in_gate, In::delta, inner, width},
    {"ssm_beta", &Layer::beta, In::delta, state_heads, width},
    {"ssm_alpha", &Layer::alpha, In::delta, state_heads, width},
    {"ssm_out", &Layer::out, In::recurrent, width, inner},
};
static const struct {
    const char *name;
    Vector Layer::*at;
    bool (*needed)(const Layer &, const Config &);
    Size size;
} VECTORS[] = {
    {"attn_norm", &Layer::attention_norm, before_attention, width},
    {"ffn_norm", &Layer::feed_norm, before_feed, width},
    {"attn_q.bias", &Layer::q_bias, never, wide},
    {"attn_k.bias", &Layer::k_bias, never, narrow},
    {"attn_v.bias", &Layer::v_bias, never, narrow},
    {"attn_q_norm", &Layer::q_norm, never, q_normed},
    {"attn_k_norm", &Layer::k_norm, never, k_normed},
    {"attn_output.bias", &Layer::o_bias, never, width},
    {"attn_sinks", &Layer::sinks, never, heads},
    {"post_attention_norm", &Layer::after_attention, never, width},
    {"ffn_gate.bias", &Layer::gate_bias, never, hidden},
    {"ffn_up.bias", &Layer::up_bias, never, hidden},
    {"ffn_down.bias", &Layer::down_bias, never, width},
    {"ffn_gate_inp.bias", &Layer::router_bias, never, experts},
    {"exp_probs_b.bias", &Layer::choice_bias, never, experts},
    {"ffn_gate_exps.bias", &Layer::gates_bias, never, all_hidden},
    {"ffn_up_exps.bias", &Layer::ups_bias, never, all_hidden},
    {"ffn_down_exps.bias", &Layer::downs_bias, never, all_width},
    {"ffn_gate_inp_shexp", &Layer::shared_router, never, width},
    {"post_ffw_norm", &Layer::after_feed, never, width},
    {"attn_q_a_norm", &Layer::q_a_norm, in<In::low_queries>, query_rank},
    {"attn_kv_a_norm", &Layer::kv_a_norm, in<In::compressed>, rank},
    {"shortconv.conv", &Layer::conv, in<In::convolved>, taps},
    {"ssm_conv1d", &Layer::conv, in<In::recurrent>, taps},
    {"ssm_conv1d.bias", &Layer::conv_bias, never, channels},
    {"ssm_dt.bias", &Layer::step_bias, in<In::recurrent>, state_heads},
    {"ssm_a", &Layer::decay, in<In::recurrent>, state_heads},
    {"ssm_d", &Layer::direct, in<In::scanned>, state_heads},
    {"ssm_norm", &Layer::inner_norm, in<In::delta>, inner_normed},
};

// The member of a layer that a table has under this name; null for other names.
template <class Member, class Table>
static Member *member_of(Layer &layer, const Table &table, const std::string &name) {
    for (const auto &row : table) {
        if (name == row.name) return &(layer.*row.at);
    }
    return nullptr;
}

// Each head's own matrices, named as the whole with the head's number behind it; null for other names.
static Matrix *head_of(Layer &layer, const std::string &name) {
    const std::size_t dot = name.rfind('.');
    if (dot == std::string::npos || dot + 1 == name.size() || name.size() - dot > 5) return nullptr;
    const std::string stem = name.substr(0, dot), number = name.substr(dot + 1);
    if (number.find_first_not_of("0123456789") != std::string::npos) return nullptr;
    std::vector<Matrix> *all = stem == "attn_k_b" ? &layer.k_b : stem == "attn_v_b" ? &layer.v_b : nullptr;
    const std::size_t head = std::size_t(std::stoi(number));
    return all && head < all->size() ? &(*all)[head] : nullptr;
}

// As the file calls it.
static std::string whole_name(std::size_t layer, const std::string &name) {
    const bool bias = name.size() > 5 && name.compare(name.size() - 5, 5, ".bias") == 0;
    return "blk." + std::to_string(layer) + "." + name + (bias ? "" : ".weight");
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
    if (!layer) return nullptr;
    Matrix *one = member_of<Matrix>(*layer, MATRICES, rest);
    return one ? one : head_of(*layer, rest);
}

Vector *Model::vector(const std::string &name) {
    if (name == "output_norm") return &output_norm;
    if (name == "cosines") return &cosines;
    if (name == "sines") return &sines;
    if (name == "local_cosines") return &local_cosines;
    if (name == "local_sines") return &local_sines;
    std::string rest;
    Layer *layer = layer_of(layers_, name, rest);
    return layer ? member_of<Vector>(*layer, VECTORS, rest) : nullptr;
}

std::string Model::missing() const {
    const Config &c = config;
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
        if (!vector(*v, angles, false)) return "local_cosines and local_sines";
    }
    if (local_cosines.size() != local_sines.size()) return "local_cosines and local_sines";
    for (std::size_t i = 0; i < layers_.size(); ++i) {
        const Layer &l = layers_[i];
        for (const auto &row : MATRICES) {
            if (!has(row.layers, l, c)) continue;
            if (!matrix(l.*row.at, row.rows(c), row.cols(c))) return whole_name(i, row.name);
        }
        for (const Matrix &m : l.k_b) {
            if (!matrix(m, c.compressed.rank, c.compressed.key - c.rotated)) return whole_name(i, "attn_k_b");
        }
        for (const Matrix &m : l.v_b) {
            if (!matrix(m, c.compressed.values, c.compressed.rank)) return whole_name(i, "attn_v_b");
        }
        for (const auto &row : VECTORS) {
            if (!vector(l.*row.at, row.size(c), row.needed(l, c))) return whole_name(i, row.name);
        }
    }
    return "";
}

void Model::prepare() {
    const Config &c = config;
    const std::int64_t between = std::max({c.hidden, c.expert_hidden, c.shared_hidden});
    const std::int64_t cols = std::max({c.width, between, wide(c), inner(c), queried(c), attended(c), query_rank(c)});
    const std::int64_t context = rounded(c.context, ROWS);
    bool floats = output.weights.form->scale == Scale::none;
    for (Layer &l : layers_) {
        for (const auto &row : MATRICES) {
            const Matrix &m = l.*row.at;
            floats = floats || (m.given() && m.weights.form->scale == Scale::none);
        }
        for (const std::vector<Matrix> *all : {&l.k_b, &l.v_b}) {
            for (const Matrix &m : *all) floats = floats || m.weights.form->scale == Scale::none;
        }
        if (l.kind.attends) l.keys = Memory(context * narrow(c) * 2), l.values = Memory(context * c.kv_heads * c.value_dim() * 2);
        if (!l.kind.recurs) continue;
        l.past = Memory((c.recurrence.taps - 1) * channels(c) * 4), l.state = Memory(inner(c) * c.recurrence.states * 4);
    }
    const std::int64_t batch = std::min(BATCH, context);
    for (int thread = 0; thread < pool.threads(); ++thread) {
        // Enough for an unpacked panel of floats twice over, which is more than one of integers takes.
        threads_.push_back({Room(1, cols, planes_, floats), Memory(2 * 4 * ROWS * cols),
                            Memory(MOST_TOKENS * (context + 2 * ROWS) * 4), Memory(cols * 4),
                            Room(rank(c) ? OF_HEAD : 0, std::max(rank(c), c.compressed.key), planes_, floats)});
    }
    room_ = std::make_unique<Room>(batch, cols, planes_, floats);
    const auto room = [&](std::int64_t cols_of) { return Memory(batch * cols_of * 4); };
    x_ = room(c.width), normed_ = room(cols), q_ = room(wide(c)), k_ = room(narrow(c)), v_ = room(narrow(c)), mixed_ = room(wide(c));
    after_ = room(c.width);
    if (c.parallel) kept_ = room(c.width);
    q_gate_ = room(wide(c));
    queries_ = room(rank(c) ? queried(c) : 0), low_ = room(query_rank(c)), values_ = room(rank(c) ? attended(c) : 0);
    if (c.recurrence.kind != Recurrence::none) {
        const std::int64_t heads = state_heads(c);
        made_ = room(made(c)), convolved_ = room(channels(c)), gates_ = room(inner(c)), passed_ = room(std::max(c.width, inner(c)));
        beta_ = room(heads), alpha_ = room(heads), dt_ = room(heads), decay_ = room(heads), along_ = room(c.recurrence.groups);
    }
    if (c.experts) experts_ = std::make_unique<Experts>(c, batch, planes_, floats);
    gate_ = room(std::max(c.hidden, c.shared_hidden)), up_ = room(std::max(c.hidden, c.shared_hidden));
}

}  // namespace quantmill::infer
