#include "common/levels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

namespace quantmill {

// `extern const Family q8_0;` and a table of all of them, in each level's namespace.
#define QM_ENTRY(family) extern const Family family;
#if defined(__x86_64__)
namespace v2 {
#include "families.inc"
extern const Convert convert;
extern const Forward forward;
}
namespace v3 {
#include "families.inc"
extern const Convert convert;
extern const Forward forward;
}
namespace v4 {
#include "families.inc"
extern const Convert convert;
extern const Forward forward;
}
#else
namespace aarch64 {
#include "families.inc"
extern const Convert convert;
extern const Forward forward;
}
#endif
#undef QM_ENTRY

// Kernels that only one file has.
namespace amx {
extern const Product tiles_product;
}
namespace v4_bf16 {
extern const Product dot_product;
}
namespace model {
extern const Product tiles_product;
}

#if defined(__x86_64__)

#define QM_ENTRY(family) &v2::family,
static const Family *const families_v2[] = {
#include "families.inc"
};
#undef QM_ENTRY
#define QM_ENTRY(family) &v3::family,
static const Family *const families_v3[] = {
#include "families.inc"
};
#undef QM_ENTRY
#define QM_ENTRY(family) &v4::family,
static const Family *const families_v4[] = {
#include "families.inc"
};
#undef QM_ENTRY

// The features that GCC 11 and clang can ask for; each asks the system too whether it saves the wider registers.
static bool runs_v2() {
    return __builtin_cpu_supports("ssse3") && __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt");
}
static bool runs_v3() {
    return runs_v2() && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
           __builtin_cpu_supports("bmi2");
}
static bool runs_v4() {
    return runs_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

static bool runs_bf16() { return runs_v4() && __builtin_cpu_supports("avx512bf16"); }

// Whether the processor has tiles and the system gives them to this process, which must ask first.
static bool runs_amx() {
#if defined(__linux__)
    constexpr unsigned tile = 1u << 24, bf16 = 1u << 22;
    constexpr long request = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    unsigned a, b, c, d;
    if (!runs_v4() || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    return (d & tile) && (d & bf16) && syscall(SYS_arch_prctl, request, tile_data) == 0;
#else
    return false;
#endif
}

static const Level levels[] = {
    {"tiles-model", Kind::model, runs_v2, families_v2, sizeof families_v2 / sizeof *families_v2,
     &v2::convert, &v2::forward, &model::tiles_product},
    {"x86-64-v2", Kind::own, runs_v2, families_v2, sizeof families_v2 / sizeof *families_v2,
     &v2::convert, &v2::forward, nullptr},
    {"x86-64-v3", Kind::own, runs_v3, families_v3, sizeof families_v3 / sizeof *families_v3,
     &v3::convert, &v3::forward, nullptr},
    {"x86-64-v4", Kind::own, runs_v4, families_v4, sizeof families_v4 / sizeof *families_v4,
     &v4::convert, &v4::forward, nullptr},
    {"x86-64-v4-bf16", Kind::forward, runs_bf16, families_v4, sizeof families_v4 / sizeof *families_v4,
     &v4::convert, &v4::forward, &v4_bf16::dot_product},
    {"x86-64-v4-amx", Kind::forward, runs_amx, families_v4, sizeof families_v4 / sizeof *families_v4,
     &v4::convert, &v4::forward, &amx::tiles_product},
};

#else

#define QM_ENTRY(family) &aarch64::family,
static const Family *const families_aarch64[] = {
#include "families.inc"
};
#undef QM_ENTRY

static bool runs_aarch64() { return true; }

static const Level levels[] = {
    {"tiles-model", Kind::model, runs_aarch64, families_aarch64, sizeof families_aarch64 / sizeof *families_aarch64,
     &aarch64::convert, &aarch64::forward, &model::tiles_product},
    {"aarch64", Kind::own, runs_aarch64, families_aarch64, sizeof families_aarch64 / sizeof *families_aarch64,
     &aarch64::convert, &aarch64::forward, nullptr},
};

#endif

std::vector<const Level *> runnable_levels() {
    std::vector<const Level *> found;
    for (const Level &level : levels) {
        if (level.runs()) found.push_back(&level);
    }
    return found;
}

const Kernel *find_kernel(const Level &level, const std::string &type) {
    for (int i = 0; i < level.count; ++i) {
        for (int k = 0; k < level.families[i]->count; ++k) {
            if (type == level.families[i]->kernels[k].type) return &level.families[i]->kernels[k];
        }
    }
    return nullptr;
}

}  // namespace quantmill
