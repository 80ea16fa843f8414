// The levels of instruction sets this build has kernels for, and which of them this machine runs.
#pragma once

#include <string>
#include <vector>

#include "forward.h"
#include "kernel.h"

namespace quantmill {

struct Level {
    const char *name;  // "x86-64-v3"
    bool (*runs)();    // whether this processor and system can run it
    const Family *const *families;
    int count;
    const Forward *forward;
};

// Lowest first; the last one that runs is the fastest.
std::vector<const Level *> runnable_levels();

// null where the level has no kernel of this name
const Kernel *find_kernel(const Level &level, const std::string &type);

}  // namespace quantmill
