// The scans of Mamba (one decay for each channel and state) and Mamba-2 (one for each head).
#include "forward/recurrent/lanes.h"

namespace quantmill::QM_LEVEL {

// The state of a tile and, where they are of channels, their a's.
static std::int64_t floats(const Scan &of) { return (of.wide ? 2 : 1) * of.states * TILE; }

// One position: `decay(n)` are the factors of state n. The sums over the states.
template <class Decay>
QM_INLINE Lanes step(const Scan &of, const float *b, const float *c, const Lanes &x, float *state, Decay decay) {
    Lanes sum = {};
    QM_ROLLED
    for (std::int64_t n = 0; n < of.states; ++n, state += TILE) {
        const V in = broadcast(b[n]), out = broadcast(c[n]);
        const Lanes factor = decay(n);
        QM_UNROLL
        for (int i = 0; i < VECTORS; ++i) {
            const V s = fma(in, x.v[i], load(state + i * W) * factor.v[i]);
            store(state + i * W, s);
            sum.v[i] = fma(s, out, sum.v[i]);
        }
    }
    return sum;
}

static void run(const Scan &of, std::int64_t sequence, std::int64_t head, std::int64_t tile, float *scratch) {
    const std::int64_t lane = tile * TILE, width = of.wide ? of.heads : of.dims, left = width - lane < TILE ? width - lane : TILE;
    const std::int64_t group = of.wide ? 0 : head / (of.heads / of.groups);
    float *const state = scratch, *const a = scratch + of.states * TILE;
    std::memset(state, 0, std::size_t(of.states * TILE) * sizeof(float));
    for (std::int64_t n = 0; of.wide && n < of.states; ++n) {
        for (std::int64_t i = 0; i < TILE; ++i) a[n * TILE + i] = i < left ? of.a[(lane + i) * of.states + n] : 0.f;
    }
    for (std::int64_t row = sequence * of.sequence; row < (sequence + 1) * of.sequence; ++row) {
        const float *b = of.b + (row * of.groups + group) * of.states, *c = of.c + (row * of.groups + group) * of.states;
        const std::int64_t at = of.wide ? row * of.heads + lane : (row * of.heads + head) * of.dims + lane;
        const Lanes x = tile_of(of.x + at, left);
        Lanes dt, in, d, sum;
        if (of.wide) {
            dt = tile_of(of.dt + at, left);
            d = of.d ? tile_of(of.d + lane, left) : Lanes{};
            for (V &v : dt.v) v = softplus(v);
        } else {
            const V one = softplus(broadcast(of.dt[row * of.heads + head])), skip = broadcast(of.d ? of.d[head] : 0.f);
            for (int i = 0; i < VECTORS; ++i) dt.v[i] = one, d.v[i] = skip;
        }
        for (int i = 0; i < VECTORS; ++i) in.v[i] = x.v[i] * dt.v[i];
        if (of.wide) {
            sum = step(of, b, c, in, state, [&](std::int64_t n) {
                Lanes factor;
                QM_UNROLL
                for (int i = 0; i < VECTORS; ++i) factor.v[i] = exponential(dt.v[i] * load(a + n * TILE + i * W));
                return factor;
            });
        } else {
            const V one = exponential(dt.v[0] * of.a[head]);
            Lanes factor;
            for (V &v : factor.v) v = one;
            sum = step(of, b, c, in, state, [&](std::int64_t) { return factor; });
        }
        for (int i = 0; of.d && i < VECTORS; ++i) sum.v[i] += x.v[i] * d.v[i];
        store_tile(of.out + at, left, sum);
    }
}

extern const ScanKernel scan;
const ScanKernel scan = {TILE, floats, run};

}  // namespace quantmill::QM_LEVEL
