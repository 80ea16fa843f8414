// The gated delta rule, position by position.
#include "forward/recurrent/lanes.h"

namespace quantmill::QM_LEVEL {

// The state of a tile and the decays of its rows.
static std::int64_t floats(const Delta &of) { return of.key_dims * (TILE + 1) + W; }

static void decays(const Delta &of, const float *g, float *decay) {
    if (!of.wide) {
        const float one = exponential(broadcast(*g))[0];
        for (std::int64_t i = 0; i < of.key_dims; ++i) decay[i] = one;
        return;
    }
    for (std::int64_t i = 0; i < of.key_dims; i += W) store(decay + i, exponential(load_some(g + i, of.key_dims - i, 0.f)));
}

static void run(const Delta &of, std::int64_t sequence, std::int64_t head, std::int64_t tile, float *scratch) {
    const std::int64_t lane = tile * TILE, left = of.value_dims - lane < TILE ? of.value_dims - lane : TILE;
    const std::int64_t key_head = of.interleaved ? head / (of.heads / of.key_heads) : head % of.key_heads;
    float *const state = scratch, *const decay = scratch + of.key_dims * TILE;
    std::memset(state, 0, std::size_t(of.key_dims * TILE) * sizeof(float));
    for (std::int64_t row = sequence * of.sequence; row < (sequence + 1) * of.sequence; ++row) {
        const std::int64_t at = row * of.heads + head, key = (row * of.key_heads + key_head) * of.key_dims;
        const float *k = of.k + key, *q = of.q + key;
        decays(of, of.g + (of.wide ? at * of.key_dims : at), decay);
        Lanes known = {};
        QM_ROLLED
        for (std::int64_t d = 0; d < of.key_dims; ++d) {
            const V factor = broadcast(decay[d]), value = broadcast(k[d]);
            QM_UNROLL
            for (int i = 0; i < VECTORS; ++i) {
                const V s = load(state + d * TILE + i * W) * factor;
                store(state + d * TILE + i * W, s);
                known.v[i] = fma(value, s, known.v[i]);
            }
        }
        Lanes change = tile_of(of.v + at * of.value_dims + lane, left), sum = {};
        QM_UNROLL
        for (int i = 0; i < VECTORS; ++i) change.v[i] = (change.v[i] - known.v[i]) * of.beta[at];
        QM_ROLLED
        for (std::int64_t d = 0; d < of.key_dims; ++d) {
            const V to = broadcast(k[d]), from = broadcast(q[d]);
            QM_UNROLL
            for (int i = 0; i < VECTORS; ++i) {
                const V s = fma(to, change.v[i], load(state + d * TILE + i * W));
                store(state + d * TILE + i * W, s);
                sum.v[i] = fma(from, s, sum.v[i]);
            }
        }
        for (V &v : sum.v) v *= of.scale;
        store_tile(of.out + at * of.value_dims + lane, left, sum);
    }
}

extern const DeltaKernel delta;
const DeltaKernel delta = {TILE, floats, run};

}  // namespace quantmill::QM_LEVEL
