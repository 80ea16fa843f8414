// For programs that test kernels which the machine at hand only imitates: two products of quantized blocks, bit for bit.
#pragma once

#include <cmath>
#include <cstring>
#include <vector>

#include "common/levels.h"
#include "infer/model.h"

namespace quantmill {

// From -1 to 1, the same on every machine.
static inline float pseudo_random() {
    static std::uint64_t state = 88172645463325252u;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return float(std::int32_t(state >> 32) >> 8) * 0x1p-23f;
}

namespace infer {

// What was compared: outputs that the two kernels give different bits, and outputs of the first that are further from exact products
// of the dequantized weights than rounding activations to `planes` bytes explains.
struct Compared {
    long outputs = 0, different = 0, wrong = 0;
};

// m tokens by n rows of k weights, in `threads` threads, added to what is there where `add`.
static inline std::vector<float> product(const InferKernels &used, const Form &form, const std::vector<float> &x,
                                         const std::uint8_t *bytes, std::int64_t m, std::int64_t n, std::int64_t k, int planes,
                                         int threads, bool add) {
    Pool pool(threads);
    const bool floats = form.scale == Scale::none;
    const Matrix matrix = make_matrix(used, pool, form, n, k, bytes, true);
    const Room room(m, k, planes, floats);
    const Activations a = room.of(m, k, used.tokens, floats ? 0 : planes);
    std::vector<Memory> buffers;
    for (int i = 0; i < threads; ++i) buffers.emplace_back(std::size_t(2 * 4 * ROWS * k));
    std::vector<float> out(std::size_t(m * n), add ? 1.f : NAN);
    const std::int64_t tiles = a.tiles(), panels = matrix.weights.panels();
    pool.run([&, tiles, panels](int thread) {
        pool.share(thread, tiles, [&](std::int64_t i) { used.quantize(x.data(), k, a, i, i + 1); });
        pool.share(thread, panels, [&](std::int64_t i) {
            std::uint8_t *buffer = buffers[std::size_t(thread)].data();
            used.multiply(matrix.weights, a, out.data(), n, add, i, i + 1, buffer);
        });
    });
    return out;
}

// Products of every type with both kernels. `level` quantizes the weights.
static inline void compare(const Level &level, const InferKernels &one, const InferKernels &other, int threads, Compared &sum) {
    const std::int64_t shapes[][3] = {{2, 16, 256}, {16, 40, 512}, {37, 33, 768}};
    for (const Form *form = forms; form->type; ++form) {
        for (const auto &[m, n, k] : shapes) {
            std::vector<float> x(std::size_t(m * k)), w(std::size_t(n * k)), importance(std::size_t(k), 1.f);
            for (float &value : x) value = pseudo_random();
            for (float &value : w) value = pseudo_random();
            const Kernel &kernel = *find_kernel(level, form->type);
            std::vector<std::uint8_t> bytes(std::size_t(n * row_bytes(*form, k)));
            kernel.quantize(w.data(), bytes.data(), n, k, importance.data(), {Changes::NONE});
            if (!std::strcmp(form->type, "Q8_0")) {  // all bytes, -128 among them, which no quantizer writes
                for (std::size_t i = 0; i < bytes.size(); ++i) {
                    if (i % 34 > 1) bytes[i] = std::uint8_t(pseudo_random() < -0.5f ? 128 : 256 * pseudo_random());
                }
            }
            kernel.dequantize(bytes.data(), w.data(), n * k);
            for (const int planes : {1, 2}) {
                const bool add = planes == 2;
                const std::vector<float> found = product(one, *form, x, bytes.data(), m, n, k, planes, threads, add);
                const std::vector<float> same = product(other, *form, x, bytes.data(), m, n, k, planes, threads, add);
                for (std::int64_t i = 0; i < m * n; ++i) {
                    double exact = add, of_x = 0, of_w = 0;
                    for (std::int64_t j = 0; j < k; ++j) {
                        const double a = x[std::size_t(i / n * k + j)], b = w[std::size_t(i % n * k + j)];
                        exact += a * b, of_x += a * a, of_w += b * b;
                    }
                    const double bound = (planes == 2 ? 6e-5 : 1.5e-2) * (std::sqrt(of_x * of_w) + add);
                    sum.different += std::memcmp(&found[std::size_t(i)], &same[std::size_t(i)], 4) != 0;
                    sum.wrong += !(std::fabs(found[std::size_t(i)] - exact) <= bound);
                }
                sum.outputs += m * n;
            }
        }
    }
}

}  // namespace infer
}  // namespace quantmill
