// The levels of instruction sets this build has kernels for, and which of them this machine runs.
#pragma once

#include <string>
#include <vector>

#include "common/kernel.h"
#include "forward/forward.h"
#include "quantize/convert.h"

namespace quantmill {

// What a level is for: `own` has kernels of its own for everything. `forward` is another one's but for a product. `model` is for tests: it
// does in software what a processor may lack.
enum class Kind { model, own, forward };

struct Level {
    const char *name;  // "x86-64-v3"
    Kind kind;
    bool (*runs)();  // whether this processor and system can run it
    const Family *const *families;
    int count;
    const Convert *convert;
    const Forward *forward;
    const Product *bf16x2;  // by instructions of its own; null: forward's
};

// Models, then the lowest first; the last one that runs is the fastest.
std::vector<const Level *> runnable_levels();

// null where the level has no kernel of this name
const Kernel *find_kernel(const Level &level, const std::string &type);

}  // namespace quantmill
