// Compares the products of NEON's levels bit for bit, on a machine or in an emulator that runs all of them (docs/kernels.md);
// exits with 1 if an output differs or is not what the weights say.
#include "programs/infer_same.h"

#include <cstdio>

using namespace quantmill;

namespace quantmill::infer_neon { extern const infer::InferKernels kernels; }
namespace quantmill::infer_dotprod { extern const infer::InferKernels kernels; }
namespace quantmill::infer_i8mm { extern const infer::InferKernels kernels; }

int main() {
    const Level &level = *runnable_levels().back();
    bool good = true;
    const struct {
        const char *name;
        const infer::InferKernels &kernels;
    } others[] = {{"dotprod", infer_dotprod::kernels}, {"i8mm", infer_i8mm::kernels}};
    for (const auto &[name, kernels] : others) {
        infer::Compared sum;
        infer::compare(level, infer_neon::kernels, kernels, 2, sum);
        std::printf("%s: %ld of %ld outputs differ from plain NEON's; %ld of plain NEON's are wrong\n", name, sum.different, sum.outputs,
                    sum.wrong);
        good = good && !sum.different && !sum.wrong;
    }
    std::printf("this machine's own: %s\n", infer::infer_kernels(level.name).name);
    return !good;
}
