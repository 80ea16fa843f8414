// Runs the compiled AMX products on a processor without AMX and compares them bit for bit: those of floats with x86-64-v4's,
// those of quantized blocks with VNNI's. Each tile instruction that the processor refuses raises SIGILL; the handler decodes it,
// does it by Intel's manual, and goes on behind it. So what is tested is the machine code itself: its tiles, addresses, strides
// and what the compiler moved around it. What the manual makes an error ends the program with 2. Built without Python
// (docs/forward.md); exits with 1 if an output differs.
#include <immintrin.h>
#include <signal.h>
#include <ucontext.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

#include "forward/matmul.h"
#include "programs/infer_same.h"

namespace quantmill::amx {
extern const Product tiles_product;
}

using namespace quantmill;

namespace {

// Each thread has tiles of its own.
thread_local std::uint8_t tile[8][16][64];
thread_local int rows_of[8], bytes_of[8];
thread_local bool configured;
std::atomic<long> executed;

[[noreturn]] void refuse(const char *why, const std::uint8_t *code) {
    std::fprintf(stderr, "%s:", why);
    for (int i = 0; i < 10; ++i) std::fprintf(stderr, " %02x", code[i]);
    std::fprintf(stderr, "\n");
    _exit(2);
}

// Up to eight tiles of up to 16 rows of up to 64 bytes, everything else zero.
bool configure(const std::uint8_t *shape) {
    std::uint8_t wanted[64] = {1};
    for (int t = 0; t < 8; ++t) {
        wanted[16 + 2 * t] = std::uint8_t(bytes_of[t] = shape[16 + 2 * t]);
        wanted[48 + t] = std::uint8_t(rows_of[t] = shape[48 + t]);
        if (rows_of[t] > 16 || bytes_of[t] > 64 || bytes_of[t] % 4 || !rows_of[t] != !bytes_of[t]) return false;
    }
    std::memset(tile, 0, sizeof tile);
    return std::memcmp(shape, wanted, 64) == 0;
}

// Whether there are such tiles.
bool given(int t) { return t < 8 && rows_of[t]; }

// Whether three tiles, no two of them the same, have the shapes of a product.
bool fit(int out, int x, int w) {
    return given(out) && given(x) && given(w) && out != x && x != w && w != out && rows_of[out] == rows_of[x] &&
           bytes_of[out] == bytes_of[w] && bytes_of[x] == 4 * rows_of[w];
}

float element(const std::uint8_t *at) {
    std::uint16_t half;
    std::memcpy(&half, at, 2);
    const std::uint32_t word = std::uint32_t(half) << 16;
    float value;
    std::memcpy(&value, &word, 4);
    return value;
}

void dot(int out, int x, int w) {
    const unsigned before = _mm_getcsr();
    _mm_setcsr(0x1f80 | 0x8040);  // to nearest, denormals flushed
    for (int m = 0; m < rows_of[out]; ++m) {
        for (int n = 0; n < bytes_of[out] / 4; ++n) {
            __m128 even = _mm_setzero_ps(), odd = _mm_setzero_ps(), sum;
            for (int k = 0; k < rows_of[w]; ++k) {
                const std::uint8_t *a = tile[x][m] + 4 * k, *b = tile[w][k] + 4 * n;
                even = _mm_fmadd_ss(_mm_set_ss(element(a)), _mm_set_ss(element(b)), even);
                odd = _mm_fmadd_ss(_mm_set_ss(element(a + 2)), _mm_set_ss(element(b + 2)), odd);
            }
            float value;
            std::memcpy(&value, tile[out][m] + 4 * n, 4);
            sum = _mm_add_ss(_mm_set_ss(value), _mm_add_ss(even, odd));
            value = _mm_cvtss_f32(sum);
            std::memcpy(tile[out][m] + 4 * n, &value, 4);
        }
    }
    _mm_setcsr(before);
}

void dot_of_bytes(int out, int x, int w) {
    for (int m = 0; m < rows_of[out]; ++m) {
        for (int n = 0; n < bytes_of[out] / 4; ++n) {
            std::int32_t sum;
            std::memcpy(&sum, tile[out][m] + 4 * n, 4);
            for (int k = 0; k < bytes_of[x]; ++k) {
                sum += std::int8_t(tile[x][m][k]) * std::int8_t(tile[w][k / 4][4 * n + k % 4]);
            }
            std::memcpy(tile[out][m] + 4 * n, &sum, 4);
        }
    }
}

// VEX.128.pp.0F38.W0 opcode modrm: pp is 0 none, 1 66, 2 F3, 3 F2.
void on_refused(int, siginfo_t *, void *context) {
    static const int registers[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                    REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    greg_t *state = static_cast<ucontext_t *>(context)->uc_mcontext.gregs;
    const std::uint8_t *code = reinterpret_cast<const std::uint8_t *>(state[REG_RIP]), *next = code + 5;
    if (code[0] != 0xc4 || (code[1] & 31) != 2 || (code[2] & 0x84)) refuse("no tile instruction", code);
    const int r = code[1] & 0x80 ? 0 : 8, x = code[1] & 0x40 ? 0 : 8, b = code[1] & 0x20 ? 0 : 8;
    // `third` is 0 where there is none, since an operand that is not there is written as ones.
    const int third = ~(code[2] >> 3) & 15, prefix = code[2] & 3, opcode = code[3], modrm = code[4];
    const int mode = modrm >> 6, first = (modrm >> 3 & 7) | r;
    int second = (modrm & 7) | b;
    std::int64_t base = 0, stride = 0;
    const bool indexed = mode != 3 && (modrm & 7) == 4;
    if (mode != 3) {
        const int sib = indexed ? *next++ : 0, index = (sib >> 3 & 7) | x;
        if (indexed) second = (sib & 7) | b;
        if (mode == 0 && (second & 7) == 5) refuse("an address without base", code);
        base = state[registers[second]];
        if (indexed && index != 4) stride = state[registers[index]] << (sib >> 6);
        if (mode == 1) base += std::int8_t(*next++);
        if (mode == 2) {
            std::int32_t displacement;
            std::memcpy(&displacement, next, 4);
            base += displacement;
            next += 4;
        }
    }
    std::uint8_t *at = reinterpret_cast<std::uint8_t *>(base);
    const bool product = mode == 3 && configured && fit(first, second, third);
    const bool moved = configured && given(first) && indexed && !third;
    if (opcode == 0x49 && prefix == 0 && mode != 3 && !(modrm >> 3 & 7) && !third) {  // ldtilecfg
        if (!configure(at + stride)) refuse("no shape of tiles", code);
        configured = true;
    } else if (opcode == 0x49 && prefix == 0 && modrm == 0xc0 && !third) {  // tilerelease
        configured = false;
    } else if (opcode == 0x49 && prefix == 3 && mode == 3 && !second && !third && configured && given(first)) {  // tilezero
        std::memset(tile[first], 0, sizeof tile[first]);
    } else if (opcode == 0x4b && prefix == 3 && moved) {  // tileloadd
        std::memset(tile[first], 0, sizeof tile[first]);
        for (int i = 0; i < rows_of[first]; ++i) std::memcpy(tile[first][i], at + i * stride, std::size_t(bytes_of[first]));
    } else if (opcode == 0x4b && prefix == 2 && moved) {  // tilestored
        for (int i = 0; i < rows_of[first]; ++i) std::memcpy(at + i * stride, tile[first][i], std::size_t(bytes_of[first]));
    } else if (opcode == 0x5c && prefix == 2 && product) {  // tdpbf16ps
        dot(first, second, third);
    } else if (opcode == 0x5e && prefix == 3 && product) {  // tdpbssd
        dot_of_bytes(first, second, third);
    } else {
        refuse("no instruction of these, or tiles that do not fit", code);
    }
    ++executed;
    state[REG_RIP] = reinterpret_cast<greg_t>(next);
}

}  // namespace

int main() {
    const Level *v4 = nullptr;
    for (const Level *level : runnable_levels()) {
        if (std::strcmp(level->name, "x86-64-v4") == 0) v4 = level;
    }
    if (!v4) {
        std::fprintf(stderr, "this needs a processor of level x86-64-v4\n");
        return 2;
    }
    Level tiles = *v4;
    tiles.bf16x2 = &amx::tiles_product;
    struct sigaction action = {};
    action.sa_sigaction = on_refused;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(SIGILL, &action, nullptr);

    const int shapes[][3] = {{1, 1, 1}, {5, 33, 70}, {13, 64, 32}, {32, 32, 32}, {50, 40, 300}, {33, 33, 513}, {64, 64, 1100}};
    const float scales[] = {1, 0x1p-63f, 0x1p-66f, 0x1p-70f};  // to denormal sums, products and parts
    long outputs = 0, different = 0;
    for (const float scale : scales) {
        for (const char *type : {"F32", "BF16"}) {
            for (const auto &[m, n, k] : shapes) {
                std::vector<float> x(m * k), w(n * k), expected(m * n, NAN), found(m * n, NAN);
                for (float &value : x) value = pseudo_random() * scale;
                for (float &value : w) value = pseudo_random() * scale;
                const Kernel &kernel = *find_kernel(*v4, type);
                std::vector<std::uint8_t> bytes(std::size_t(n * k * kernel.size));
                kernel.quantize(w.data(), bytes.data(), n, k, nullptr, {Changes::NONE});
                Panels panels{Arithmetic::bf16x2, form_of(kernel, Arithmetic::bf16x2), n, k, {}};
                pack_weights(*v4, kernel, bytes.data(), panels, 1);
                multiply(*v4, x.data(), m, {{&panels, expected.data()}}, 1);
                multiply(tiles, x.data(), m, {{&panels, found.data()}}, 1);
                for (int i = 0; i < m * n; ++i) different += std::memcmp(&expected[i], &found[i], 4) != 0;
                outputs += m * n;
            }
        }
    }
    infer::Compared sum;
    if (__builtin_cpu_supports("avx512vnni")) infer::compare(*v4, infer::vnni_kernels, infer::tile_kernels, 2, sum);
    std::printf("%ld of %ld outputs of floats and %ld of %ld of quantized blocks differ; %ld of VNNI's are wrong; ", different, outputs,
                sum.different, sum.outputs, sum.wrong);
    std::printf("%ld tile instructions were done by the handler\n", executed.load());
    return different || sum.different || sum.wrong;
}
