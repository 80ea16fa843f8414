// A tile of lanes in registers.
#pragma once

#include "forward/functions.h"
#include "forward/recurrent/recurrent.h"

namespace quantmill::QM_LEVEL {

constexpr int VECTORS = 4;  // chains side by side
constexpr std::int64_t TILE = VECTORS * W;

struct Lanes {
    V v[VECTORS];
};

// What is not there is zero.
QM_INLINE Lanes tile_of(const float *from, std::int64_t left) {
    Lanes lanes;
    QM_UNROLL
    for (int i = 0; i < VECTORS; ++i) lanes.v[i] = left > i * W ? load_some(from + i * W, left - i * W, 0.f) : V{};
    return lanes;
}

QM_INLINE void store_tile(float *to, std::int64_t left, const Lanes &lanes) {
    QM_UNROLL
    for (int i = 0; i < VECTORS; ++i) {
        if (left > i * W) store_some(to + i * W, left - i * W, lanes.v[i]);
    }
}

}  // namespace quantmill::QM_LEVEL
