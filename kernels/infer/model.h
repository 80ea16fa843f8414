// A decoder on quantized weights: its tensors, its cache, and the evaluation of some tokens. A layer is attention, a part that
// carries a state from token to token, or both, and a part that feeds forward, one for all tokens or a mixture of experts; or some of
// these. The configuration says what is around them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/kernel.h"
#include "common/memory.h"
#include "infer/infer.h"
#include "infer/phase_pool.h"
#include "infer/route.h"

namespace quantmill::infer {

// The part that carries a state.
struct Recurrence {
    enum { none, convolution, scan, delta } kind;
    std::int64_t taps;                         // of its convolution
    std::int64_t inner, groups, states, heads;  // columns of all heads; keys, their columns
    bool interleaved;                          // heads that share a key are neighbours
};

// Attention to one compressed key and value of all heads, of `rank` columns; none where that is 0. Each head's matrices of keys and
// of values are applied to its queries and its results, so that a head's dims are the rank and the columns that turn.
struct Compressed {
    std::int64_t rank, query_rank;  // 0: queries are not compressed
    std::int64_t key, values;       // a head's own columns
};

struct Config {
    std::int64_t layers, width, hidden, heads, kv_heads, head_dim, vocabulary, context, rotated;
    std::int64_t experts, experts_used, expert_hidden;  // 0: no mixture
    std::int64_t shared_hidden;  // of the expert of a mixture that all tokens take; 0: none
    float eps, embedding_scale, attention_scale, residual_scale, logit_scale;
    float score_cap, logit_cap;  // 0: none
    float temper_scale;  // queries grow by a logarithm of how often `temper_step` is in their position, counted from `temper_first`
    std::int64_t temper_step, temper_first;
    bool halves_apart, layer_norm;
    bool attention_normed, feed_normed;  // the part sees normed states
    bool chunked;  // a layer's window is a chunk of so many positions, of which a token sees those before itself
    bool shares_before;  // an expert's share multiplies what it sees, not what it makes
    bool parallel;  // the feed-forward part sees what attention saw
    bool gated;  // the feed-forward part of dense layers has a gate; if not, the activation is of `up`
    enum HeadNorm { first, turned, whole } head_norm;  // before a head turns, behind it; before it and all heads together
    Gate gate;
    Routing routing;
    Recurrence recurrence;
    Compressed compressed;

    std::int64_t value_dim() const { return compressed.rank ? compressed.rank : head_dim; }
};

// What may differ between layers.
struct Kind {
    std::int64_t window;  // positions it sees; 0: all
    bool turns, tempers, attends, recurs, feeds, mixture;
};

struct Matrix {
    Weights weights{};
    Memory memory;  // empty where the file's blocks are used
    bool given() const { return weights.data != nullptr; }
};

// Keeps the file's blocks at `data` or repacks them.
Matrix make_matrix(const InferKernels &kernels, Pool &pool, const Form &form, std::int64_t rows, std::int64_t cols,
                   const std::uint8_t *data, bool repack);

// Room for the activations of `tokens` tokens of up to `cols` columns.
class Room {
  public:
    Room(std::int64_t tokens, std::int64_t cols, int planes, bool floats);
    // Set out for a product.
    Activations of(std::int64_t tokens, std::int64_t cols, std::int64_t tile, int planes) const;

  private:
    Memory bytes_, scales_, sums_, counts_, floats_;
};

using Vector = std::vector<float>;

struct Layer {
    Matrix q, k, v, o, gate, up, down;
    Matrix q_gate;  // of what attention makes
    Matrix q_a, q_b, kv_a;  // of compressed attention
    std::vector<Matrix> k_b, v_b;  // of each head
    Matrix in, out, in_gate, beta, alpha;  // of the part that carries a state
    Matrix router, gates, ups, downs;  // of a mixture, in place of the last three; one expert's rows after the other's
    Matrix shared_gate, shared_up, shared_down;  // of the expert that all tokens take
    Vector attention_norm, q_bias, k_bias, v_bias, q_norm, k_norm, o_bias, sinks, after_attention;
    Vector q_a_norm, kv_a_norm;
    Vector conv, conv_bias, step_bias, decay, direct, inner_norm;
    Vector feed_norm, gate_bias, up_bias, down_bias, after_feed;
    Vector router_bias, choice_bias, gates_bias, ups_bias, downs_bias, shared_router;
    Kind kind;
    Memory keys, values, past, state;
};

// Room for what the experts of a layer do with some tokens, and which do it.
struct Experts {
    struct Group {  // the tokens of one expert, in slots from `first` on
        std::int64_t expert, first, tokens;
    };
    struct Tile {  // the slots of one tile of activations
        std::int64_t first, tokens;
    };

    Experts(const Config &config, std::int64_t batch, int planes, bool floats);
    void arrange(const Config &config, std::int64_t n, std::int64_t tile);

    const std::int64_t pairs, slots;  // at most
    Room room;
    Memory logits, scores, gate, up, out;
    std::vector<std::int32_t> chosen;       // of each pair of a token and one of its experts: the expert,
    std::vector<float> shares;              // its share of the result,
    std::vector<std::int64_t> slot, pair;  // and the slot; of each slot: the pair
    std::vector<Group> groups;
    std::vector<Tile> tiles;
};

class Model {
  public:
    Model(const Config &config, const std::vector<Kind> &kinds, const InferKernels &kernels, int threads, bool repack, int planes);

    // A tensor by its name in the file without ".weight"; false where this kind of model has none of that name.
    Matrix *matrix(const std::string &name);
    Vector *vector(const std::string &name);
    // The rows' file bytes stay where they are, for looking tokens up.
    void set_embedding(const Kernel &kernel, const std::uint8_t *data) { embedding_ = &kernel, embedding_data_ = data; }
    // The name of a tensor that is missing or has another shape than the configuration says; empty: none.
    std::string missing() const;
    // Makes room; call once after the tensors were set.
    void prepare();

    // Evaluates `count` tokens at the positions from `position` on, whose predecessors must be in the cache; logits of the last
    // one, or of all, are written.
    void evaluate(const std::int32_t *tokens, std::int64_t count, std::int64_t position, float *logits, bool all);

    const Config config;
    const InferKernels &kernels;
    const bool repack;
    Matrix output;
    Vector output_norm;
    // For each position, rotated / 2 of each: how far a head's pairs are turned; and in layers with a window, where that differs.
    Vector cosines, sines, local_cosines, local_sines;

  private:
    static constexpr std::int64_t BATCH = 512;  // tokens evaluated at a time
    static constexpr std::int64_t OF_HEAD = 96;  // of which so many meet a head's own matrix together

    struct Thread {
        Room room;  // for one token
        Memory buffer, scores, row;
        Room of_head;  // for some tokens of a head
    };
    struct Use {  // one matrix of a product, and where its results go
        const Matrix *matrix;
        float *out;
        std::int64_t stride;
    };
    struct Feed {  // a feed-forward part, which may have no gate; the biases may be empty
        const Matrix &gate, &up;
        const Vector *gate_bias, *up_bias;
        std::int64_t hidden;
    };
    struct Source {  // of a product's activations: rows, and what they are normed by, null or empty for nothing
        const float *x;
        const Vector *norm;
    };
    struct Inputs {  // of a product: as integers, as floats, or both
        Activations integers, floats;
        bool any_integers, any_floats, made;
    };

    // The steps of an evaluation, in every thread: phases of the pool.
    void forward(int thread, const std::int32_t *tokens, std::int64_t n, std::int64_t position, float *logits, bool all);
    void norm_heads(int thread, const Layer &layer, std::int64_t n);
    void place_heads(int thread, int index, std::int64_t n, std::int64_t position);
    void attend(int thread, int index, std::int64_t n, std::int64_t position);
    void attend_compressed(int thread, int index, const Source &from, std::int64_t n, std::int64_t position);
    void place_compressed(int thread, Layer &layer, std::int64_t n, std::int64_t position);
    void by_head(int thread, const std::vector<Matrix> &matrices, const float *x, std::int64_t stride, std::int64_t step, float *out,
                 std::int64_t out_stride, std::int64_t out_step, std::int64_t n);
    void recur(int thread, int index, const Source &from, std::int64_t n);
    void feed(int thread, const Feed &part, const Source &from, std::int64_t n);
    void feed_experts(int thread, const Layer &layer, const Source &from, std::int64_t n);
    void add_shared(std::int64_t token, const float *normed, const Layer &layer, float *sum) const;
    void settle(float *change, std::int64_t token, const Vector &bias, const Vector &after) const;
    void norm(const float *x, const Vector &weights, float *out) const;
    void product(int thread, std::initializer_list<Use> uses, const Source &from, std::int64_t n, bool add);
    void join(int thread, const Matrix &matrix, const float *x, std::int64_t n, const Vector &bias, const Vector &after);
    Inputs activate(int thread, std::initializer_list<Use> uses, const Source &from, std::int64_t n);
    void ready(int thread, const Source &from, const Inputs &to, std::int64_t first, std::int64_t last);
    void multiply(int thread, const Use &use, const Inputs &inputs, bool add, std::int64_t first, std::int64_t last);
    std::int64_t chunk_of(const Matrix &matrix, std::int64_t n) const;
    const int planes_;
    const Kernel *embedding_ = nullptr;
    const std::uint8_t *embedding_data_ = nullptr;
    std::vector<Layer> layers_;
    std::vector<Thread> threads_;
    std::unique_ptr<Room> room_;
    std::unique_ptr<Experts> experts_;
    Memory x_, normed_, kept_, q_, k_, v_, q_gate_, mixed_, gate_, up_, after_;
    Memory queries_, low_, values_;  // of compressed attention
    Memory made_, gates_, beta_, alpha_, convolved_, dt_, decay_, along_, passed_;  // of a part that carries a state

  public:
    Pool pool;  // the last member, since its threads look at the others until they end
};

}  // namespace quantmill::infer
