// Parts of layers that carry a state from token to token. What a piece of work computes is lanes that do not meet, channels of a
// convolution or columns of a head, token by token: bits depend neither on threads nor on how many tokens come at once.
//
// Sixteen columns of a head's state lie together: [heads][columns / 16][rows][16].
#pragma once

#include <cstdint>

namespace quantmill::infer {

constexpr int MOST_TAPS = 8;    // of a convolution
constexpr int COLUMNS = 16;     // of a state that lie together
constexpr int CHANNELS = 256;   // of a convolution that are one piece of work
constexpr int MOST_TOGETHER = 4 * COLUMNS;  // columns that are

// out[t, c] = the sum of weight[i, c] * x[t - taps + 1 + i, c], plus bias[c], and its silu. Gates, of x's stride too, multiply x and
// the result. The state is what x was in the tokens before, the oldest first: [taps - 1][channels].
struct Convolution {
    std::int64_t tokens, channels, taps, stride;
    const float *x, *before, *behind;  // both gates or none
    const float *weight, *bias;  // weight is [taps][channels]; bias may be null
    bool activated;
    float *state, *out;
};

// A head's state is [states][dims]: state = state * decay + b (x dt); out is the chain of state c over the states, plus x d.
struct Scan {
    std::int64_t tokens, heads, dims, groups, states, stride;
    const float *x, *b, *c;
    const float *dt, *decay;  // [tokens][heads]
    const float *direct;      // d: [heads]
    float *state, *out;       // out is [tokens][heads][dims]
};

// A head's state is [key_dims][value_dims]: state = state * decay + k ((v - state^T k decay) beta); out = state^T q.
struct Delta {
    std::int64_t tokens, key_heads, heads, key_dims, value_dims, stride;
    bool interleaved;  // head h has key head h / (heads / key_heads), else h % key_heads
    const float *q, *k, *v;
    const float *decay, *beta;  // [tokens][heads]
    const float *along;         // of each key head: how far its query is along its key, [tokens][key_heads]
    float *state, *out;         // out is [tokens][heads][value_dims]

    std::int64_t key_head(std::int64_t head) const { return interleaved ? head / (heads / key_heads) : head % key_heads; }
};

// What the kernels of a level have for these.
struct RecurrentKernels {
    void (*convolve)(const Convolution &, std::int64_t first, std::int64_t last);  // channels
    // dt = log(1 + exp(raw + bias)) and decay = exp(dt * factor) of n heads.
    void (*steps)(const float *raw, const float *bias, const float *factor, std::int64_t n, float *dt, float *decay);
    // `count` columns from `first` on of a head, at most MOST_TOGETHER of them.
    void (*scan)(const Scan &, std::int64_t head, std::int64_t first, std::int64_t count);
    // q and k as long as 1, q then as `scale`; their product.
    float (*norm_pair)(float *q, float *k, std::int64_t n, float eps, float scale);
    void (*delta)(const Delta &, std::int64_t head, std::int64_t first, std::int64_t count);
};

}  // namespace quantmill::infer
