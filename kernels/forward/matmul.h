// Weights packed once and multiplied often.
#pragma once

#include <vector>

#include "common/levels.h"
#include "common/memory.h"

namespace quantmill {

enum class Arithmetic { f32, bf16x2 };

struct Panels {
    Arithmetic arithmetic;
    Form form;
    std::int64_t rows, cols;
    Memory memory;
};

// How weights of a type are held for an arithmetic: nothing they are worth is lost, but for what bf16x2 itself leaves out.
Form form_of(const Kernel &kernel, Arithmetic arithmetic);

// `src` has rows * cols / block * size bytes. The layout is every level's.
void pack_weights(const Level &level, const Kernel &kernel, const std::uint8_t *src, Panels &panels, int threads);

struct Task {
    const Panels *weights;
    float *out;
};

// out (m, rows) = x (m, cols) times the panels, for one or more tasks of one arithmetic and width that share x: it is packed once.
void multiply(const Level &level, const float *x, std::int64_t m, const std::vector<Task> &tasks, int threads);

}  // namespace quantmill
