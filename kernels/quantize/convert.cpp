// One level's conversion: expands a tile of rows, looks at its weights and quantizes them while they are in the cache.
#include "quantize/convert.h"

#include "common/simd.h"

namespace quantmill::QM_LEVEL {

constexpr std::int32_t EXPONENT = 0x7f800000;  // all ones in infinities and NaN

static bool all_finite(const float *x, std::int64_t count) {
    I bad = {};
    std::int64_t i = 0;
    for (; i + W <= count; i += W) {
        I v;
        std::memcpy(&v, x + i, sizeof v);
        bad |= (v & EXPONENT) == EXPONENT;
    }
    bool found = any(bad);
    for (; i < count; ++i) {
        std::int32_t v;
        std::memcpy(&v, x + i, sizeof v);
        found |= (v & EXPONENT) == EXPONENT;
    }
    return !found;
}

static bool convert_rows(const Conversion &c) {
    const std::int64_t from_bytes = c.cols / c.from->block * c.from->size, to_bytes = c.cols / c.to->block * c.to->size;
    for (std::int64_t first = 0; first < c.rows; first += c.tile_rows) {
        const std::int64_t rows = c.rows - first < c.tile_rows ? c.rows - first : c.tile_rows;
        c.from->dequantize(c.src + first * from_bytes, c.tile, rows * c.cols);
        if (!all_finite(c.tile, rows * c.cols)) return false;
        c.to->quantize(c.tile, c.dst + first * to_bytes, rows, c.cols, c.importance, c.arithmetic);
    }
    return true;
}

extern const Convert convert;
const Convert convert = convert_rows;

}  // namespace quantmill::QM_LEVEL
