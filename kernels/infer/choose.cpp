// Which inference kernels run: the levels are finer than the quantizers', since products of bytes came late.
#include <cstring>

#include "infer/infer.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
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
namespace quantmill::infer_tiles {
using namespace infer;
void quantize_tiles(const float *x, std::int64_t stride, const Activations &a, std::int64_t first, std::int64_t last);
void multiply(const Weights &, const Activations &a, float *out, std::int64_t stride, bool add, std::int64_t first,
              std::int64_t last, std::uint8_t *buffer);
}  // namespace quantmill::infer_tiles
#else
QM_KERNELS(infer_neon)
QM_KERNELS(infer_dotprod)
QM_KERNELS(infer_i8mm)
#endif

namespace quantmill::infer {

#if defined(__x86_64__)

static InferKernels with_tiles() {
    InferKernels kernels = infer_vnni::kernels;
    kernels.tokens = 16, kernels.quantize = infer_tiles::quantize_tiles, kernels.multiply = infer_tiles::multiply;
    return kernels;
}
const InferKernels tile_kernels = with_tiles(), &vnni_kernels = infer_vnni::kernels;

static bool has_tiles_of_bytes() {
    constexpr unsigned int8 = 1u << 25;
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & int8);
}

Chosen infer_kernels(const char *level) {
    // Everything else that the files are compiled for belongs to the level, which the caller has checked.
    if (!std::strcmp(level, "x86-64-v2")) return {"ssse3", infer_v2::kernels};
    if (!std::strcmp(level, "x86-64-v4-amx") && __builtin_cpu_supports("avx512vnni") && has_tiles_of_bytes()) {
        return {"avx512-amx", tile_kernels};
    }
    if (std::strcmp(level, "x86-64-v3") && __builtin_cpu_supports("avx512vnni")) return {"avx512-vnni", infer_vnni::kernels};
    return {"avx2", infer_v3::kernels};
}

#else

#if defined(__linux__)
static bool has_dotprod() { return getauxval(AT_HWCAP) & (1ul << 20); }             // HWCAP_ASIMDDP
static bool has_i8mm() { return has_dotprod() && getauxval(AT_HWCAP2) & (1ul << 13); }  // HWCAP2_I8MM
#else
static bool has_dotprod() { return true; }  // every Mac with an M1 or newer
static bool has_i8mm() { return false; }    // those with an M2 or newer, which are not asked
#endif

Chosen infer_kernels(const char *) {
    if (has_i8mm()) return {"neon-i8mm", infer_i8mm::kernels};
    if (has_dotprod()) return {"neon-dotprod", infer_dotprod::kernels};
    return {"neon", infer_neon::kernels};
}

#endif

}  // namespace quantmill::infer
