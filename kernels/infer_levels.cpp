// Which inference kernels run: the levels are finer than the quantizers', since products of bytes came late.
#include <cstring>

#include "infer.h"

#if defined(__linux__) && defined(__aarch64__)
#include <sys/auxv.h>
#endif

#define QM_KERNELS(level)                       \
    namespace quantmill::level {                \
    extern const infer::InferKernels kernels;   \
    }
#if defined(__x86_64__)
QM_KERNELS(infer_v2)
QM_KERNELS(infer_v3)
QM_KERNELS(infer_vnni)
#else
QM_KERNELS(infer_neon)
QM_KERNELS(infer_dotprod)
#endif

namespace quantmill::infer {

#if defined(__x86_64__)

Chosen infer_kernels(const char *level) {
    // Everything else that the files are compiled for belongs to the level, which the caller has checked.
    if (!std::strcmp(level, "x86-64-v2")) return {"ssse3", infer_v2::kernels};
    if (std::strcmp(level, "x86-64-v3") && __builtin_cpu_supports("avx512vnni")) return {"avx512-vnni", infer_vnni::kernels};
    return {"avx2", infer_v3::kernels};
}

#else

#if defined(__linux__)
static bool has_dotprod() { return getauxval(AT_HWCAP) & (1ul << 20); }  // HWCAP_ASIMDDP
#else
static bool has_dotprod() { return true; }  // every Mac with an M1 or newer
#endif

Chosen infer_kernels(const char *) {
    if (has_dotprod()) return {"neon-dotprod", infer_dotprod::kernels};
    return {"neon", infer_neon::kernels};
}

#endif

}  // namespace quantmill::infer
