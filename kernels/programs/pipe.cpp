// The kernels without Python, for machines that are emulated: reads jobs on standard input, writes quantized rows and the weights
// read back from them on standard output. A job is a line "TYPE ROWS COLS IMPORTANCE ARITHMETIC", then ROWS * COLS float32, then,
// if IMPORTANCE is 1, COLS float32. tests/golden/elsewhere.py is the other end.
#include <cstdio>
#include <vector>

#include "common/levels.h"

using namespace quantmill;

template <class T>
static bool take(std::vector<T> &values) {
    return std::fread(values.data(), sizeof(T), values.size(), stdin) == values.size();
}

template <class T>
static void give(const std::vector<T> &values) {
    std::fwrite(values.data(), sizeof(T), values.size(), stdout);
}

int main() {
    const std::vector<const Level *> levels = runnable_levels();
    char type[16];
    int rows, cols, weighed, arithmetic;
    while (std::scanf("%15s %d %d %d %d", type, &rows, &cols, &weighed, &arithmetic) == 5) {
        std::getchar();
        const Kernel *kernel = levels.empty() ? nullptr : find_kernel(*levels.back(), type);
        if (!kernel || !kernel->quantize || cols % kernel->block) return 2;
        const std::size_t count = std::size_t(rows) * std::size_t(cols);
        std::vector<float> src(count), importance(weighed ? std::size_t(cols) : 0);
        if (!take(src) || !take(importance)) return 1;
        std::vector<std::uint8_t> out(count / std::size_t(kernel->block) * std::size_t(kernel->size));
        kernel->quantize(src.data(), out.data(), rows, cols, weighed ? importance.data() : nullptr, {arithmetic});
        give(out);
        kernel->dequantize(out.data(), src.data(), std::int64_t(count));
        give(src);
    }
    return 0;
}
