// What a kernel is to the rest of the extension: two plain functions and the shape of a block.
#pragma once

#include <cstdint>

#include "common/changes.h"

namespace quantmill {

// Quantizes `rows` rows of `cols` weights; `cols` is a whole number of blocks and `dst` holds rows * cols / block * size bytes.
// `importance` is null or has one value per column. `arithmetic` is
// that of the build of llama.cpp that is followed.
using Quantize = void (*)(const float *src, std::uint8_t *dst, std::int64_t rows, std::int64_t cols, const float *importance,
                          Changes arithmetic);

// Expands `count` weights, a whole number of blocks.
using Dequantize = void (*)(const std::uint8_t *src, float *dst, std::int64_t count);

struct Kernel {
    const char *type;  // ggml's name: "Q4_K"
    int block;         // weights in a block
    int size;          // bytes of a block
    Quantize quantize;  // null: this type is only ever read
    Dequantize dequantize;
    bool needs_importance;
};

// The kernels of one source file, compiled for one level.
struct Family {
    const Kernel *kernels;
    int count;
};

}  // namespace quantmill

// Closes a family file: QM_FAMILY(q8_0, {"Q8_0", 32, 34, quantize_q8_0, dequantize_q8_0, false}). The name is the file's.
#define QM_FAMILY(name, ...)                                     \
    static constexpr Kernel name##_kernels[] = {__VA_ARGS__};    \
    extern const Family name;                                    \
    const Family name = {name##_kernels, int(sizeof(name##_kernels) / sizeof(Kernel))};
