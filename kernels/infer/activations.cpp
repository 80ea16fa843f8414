// Activations to integers: for each 32 of a token one scale, and 8 bits each or 16 in two planes of 8.
#include "infer/level.h"

namespace quantmill::QM_LEVEL {

// What lies side by side of a token's bytes in a tile of several.
#if defined(__AMX_INT8__)
constexpr int RUN = GROUP;  // and signed
#elif defined(__ARM_FEATURE_MATMUL_INT8)
constexpr int RUN = 8;
#else
constexpr int RUN = 4;
#endif
constexpr int PARTS = GROUP / W;  // vectors of a group

QM_INLINE float largest_of(V v) {
#if defined(__AVX512F__)
    return _mm512_reduce_max_ps((__m512)v);
#else
    float most = v[0];
    for (int i = 1; i < W; ++i) most = v[i] > most ? v[i] : most;
    return most;
#endif
}

QM_INLINE std::int32_t sum_of(I v) {
#if defined(__AVX512F__)
    return _mm512_reduce_add_epi32((__m512i)v);
#else
    std::int32_t sum = 0;
    for (int i = 0; i < W; ++i) sum += v[i];
    return sum;
#endif
}

struct Group {
    std::uint8_t high[GROUP], low[GROUP];
    float scale;
    std::int32_t counts[2];
};

// A group of one token. NaN and infinity make a scale that spoils what they touch, and integers that are in range.
QM_INLINE void quantize_group(const float *x, int planes, Group &to) {
    V v[PARTS], most = {};
    for (int i = 0; i < PARTS; ++i) {
        v[i] = load<V>(x + i * W);
        most = greater(absolute(v[i]), most);
    }
    const float largest = largest_of(most), range = planes == 2 ? 32512.f : 127.f;
    to.scale = largest / range;
    const float inverse = to.scale > 0 ? range / largest : 0;
    I halves[2] = {};
    QM_UNROLL
    for (int i = 0; i < PARTS; ++i) {
        I q = nearest_int(v[i] * inverse);
        if (planes == 2) {
            // The lower plane stops at -127, which the product of bytes without VNNI asks for: one part in 65000 of the largest.
            q = lesser(greater(q, splat_int(-32512)), splat_int(32512));
            const I high = (q + 128) >> 8, low = greater(q - (high << 8), splat_int(-127));
            store_lowest_bytes(to.high + i * W, high);
            store_lowest_bytes(to.low + i * W, low);
            q = (high << 8) + low;
        } else {
            q = lesser(greater(q, splat_int(-127)), splat_int(127));
            store_lowest_bytes(to.high + i * W, q);
        }
        halves[2 * i / PARTS] += q;
    }
    to.counts[0] = sum_of(halves[0]);
    to.counts[1] = sum_of(halves[1]);
}

static void floats_tile(const float *x, std::int64_t stride, const Activations &a, std::int64_t tile, std::int64_t tokens) {
    float *to = a.floats + tile * a.tile * a.cols;
    for (std::int64_t t = 0; t < a.tile; ++t) {
        for (std::int64_t k = 0; k < a.cols; ++k) to[k * a.tile + t] = t < tokens ? x[t * stride + k] : 0.f;
    }
}

void quantize_tiles(const float *x, std::int64_t stride, const Activations &a, std::int64_t first, std::int64_t last) {
    const std::int64_t T = a.tile, groups = a.groups();
    const int run = T > 1 ? RUN : 4;
    const std::uint8_t flip = T > 1 && RUN < GROUP ? BIAS : 0;
    for (std::int64_t tile = first; tile < last; ++tile) {
        const float *from = x + tile * T * stride;
        const std::int64_t tokens = a.tokens - tile * T < T ? a.tokens - tile * T : T;
        if (a.planes == 0) {
            floats_tile(from, stride, a, tile, tokens);
            continue;
        }
        for (std::int64_t t = 0; t < T; ++t) {
            for (std::int64_t g = 0; g < groups; ++g) {
                Group group;
                if (t >= tokens) group = Group{};
                else quantize_group(from + t * stride + g * GROUP, a.planes, group);
                const std::int64_t at = tile * groups + g;
                std::uint8_t *bytes = a.bytes + at * a.planes * GROUP * T + run * t;
                for (int plane = 0; plane < a.planes; ++plane, bytes += GROUP * T) {
                    const std::uint8_t *q = plane ? group.low : group.high;
                    for (int step = 0; step < 8; ++step) {
                        std::uint32_t word;
                        std::memcpy(&word, q + 4 * step, 4);
                        word ^= flip * 0x01010101u;
                        std::memcpy(bytes + 4 * step / run * run * T + 4 * step % run, &word, 4);
                    }
                }
                const float halves[2] = {group.scale * float(group.counts[0]), group.scale * float(group.counts[1])};
                a.scales[at * T + t] = group.scale;
                a.sums[(3 * at) * T + t] = halves[0];
                a.sums[(3 * at + 1) * T + t] = halves[1];
                a.sums[(3 * at + 2) * T + t] = group.scale * float(group.counts[0] + group.counts[1]);
                if (T == 1) {
                    a.counts[3 * at] = group.counts[0];
                    a.counts[3 * at + 1] = group.counts[1];
                    a.counts[3 * at + 2] = group.counts[0] + group.counts[1];
                }
            }
        }
    }
}

}  // namespace quantmill::QM_LEVEL
