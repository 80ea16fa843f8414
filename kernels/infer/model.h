// A decoder of the llama family on quantized weights: its tensors, its cache, and the evaluation of some tokens.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/kernel.h"
#include "common/memory.h"
#include "infer/infer.h"
#include "infer/phase_pool.h"

namespace quantmill::infer {

struct Config {
    std::int64_t layers, width, hidden, heads, kv_heads, head_dim, vocabulary, context, rotated;
    std::int64_t experts, experts_used;  // 0: no mixture; with one, `hidden` is an expert's
    std::int64_t window, pattern;  // layers see `window` positions but every pattern-th, which sees all; 0: all see all
    float eps, embedding_scale, attention_scale;
    bool halves_apart, gelu;
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
    Matrix router, gates, ups, downs;  // of a mixture, in place of the last three; one expert's rows after the other's
    Vector attention_norm, q_bias, k_bias, v_bias, q_norm, k_norm, after_attention, feed_norm, after_feed;
    Memory keys, values;
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
    Memory logits, gate, up, out;
    std::vector<std::int32_t> chosen;       // of each pair of a token and one of its experts: the expert,
    std::vector<float> shares;              // its share of the result,
    std::vector<std::int64_t> slot, token;  // and the slot; of each slot: the token
    std::vector<Group> groups;
    std::vector<Tile> tiles;
};

class Model {
  public:
    Model(const Config &config, const InferKernels &kernels, int threads, bool repack, int planes);

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
    // For each position, head_dim / 2 of each: how far a head's pairs are turned, and in layers that see a window.
    Vector cosines, sines, local_cosines, local_sines;

  private:
    static constexpr std::int64_t BATCH = 512;  // tokens evaluated at a time

    struct Thread {
        Room room;  // for one token
        Memory buffer, scores, row;
    };
    struct Use {  // one matrix of a product, and where its results go
        const Matrix *matrix;
        float *out;
        std::int64_t stride;
    };
    struct Source {  // of a product's activations: rows, and what they are normed by or null
        const float *x;
        const Vector *norm;
    };
    struct Inputs {  // of a product: as integers, as floats, or both
        Activations integers, floats;
        bool any_integers, any_floats, made;
    };

    // The steps of an evaluation, in every thread: phases of the pool.
    void forward(int thread, const std::int32_t *tokens, std::int64_t n, std::int64_t position, float *logits, bool all);
    void place_heads(int thread, int index, std::int64_t n, std::int64_t position);
    void attend(int thread, int index, std::int64_t n, std::int64_t position);
    void feed(int thread, const Layer &layer, std::int64_t n);
    void feed_experts(int thread, const Layer &layer, std::int64_t n);
    void product(int thread, std::initializer_list<Use> uses, const Source &from, std::int64_t n, bool add);
    void join(int thread, const Matrix &matrix, const float *x, std::int64_t n, const Vector &after);
    Inputs activate(int thread, std::initializer_list<Use> uses, const Source &from, std::int64_t n);
    void ready(int thread, const Source &from, const Inputs &to, std::int64_t first, std::int64_t last);
    void multiply(int thread, const Use &use, const Inputs &inputs, bool add, std::int64_t first, std::int64_t last);
    std::int64_t chunk_of(const Matrix &matrix, std::int64_t n) const;
    bool local(int index) const { return config.window > 0 && (config.pattern == 0 || (index + 1) % config.pattern != 0); }

    const int planes_;
    const Kernel *embedding_ = nullptr;
    const std::uint8_t *embedding_data_ = nullptr;
    std::vector<Layer> layers_;
    std::vector<Thread> threads_;
    std::unique_ptr<Room> room_;
    std::unique_ptr<Experts> experts_;
    Memory x_, normed_, q_, k_, v_, mixed_, gate_, up_, after_;

  public:
    Pool pool;  // the last member, since its threads look at the others until they end
};

}  // namespace quantmill::infer
