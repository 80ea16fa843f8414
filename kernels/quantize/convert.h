// Rows of one type to rows of another, without the whole of them as float32 in between.
#pragma once

#include "common/kernel.h"

namespace quantmill {

struct Conversion {
    const Kernel *from, *to;
    const std::uint8_t *src;
    std::uint8_t *dst;
    std::int64_t rows, cols;
    float *tile;  // room for tile_rows * cols weights: few enough to stay in the cache
    std::int64_t tile_rows;
    const float *importance;
    Changes arithmetic;
};

// False as soon as a weight is not finite; what is in dst then means nothing.
using Convert = bool (*)(const Conversion &);

}  // namespace quantmill
