#include "matmul.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "pool.h"

namespace quantmill {

Form form_of(const Kernel &kernel, Arithmetic arithmetic) {
    const std::string type = kernel.type;
    if (type == "BF16") return Form::bf16;
    if (arithmetic == Arithmetic::bf16x2) return Form::split;
    return type == "F16" ? Form::f16 : Form::f32;
}

// The rows of one panel, as rows of 32-bit words padded with zeros, then interleaved.
static void pack_panel(const Level &level, const Kernel &kernel, const std::uint8_t *src, int valid, std::int64_t cols, Form form,
                       std::uint8_t *panel, std::vector<std::uint8_t> &work) {
    const Packing &packing = *level.forward->packing;
    const std::int64_t whole = padded(cols), blocks = whole / SPLIT_K, words = SPLIT_K / 2;
    const std::size_t values = std::size_t(whole * valid);
    std::uint32_t *to = reinterpret_cast<std::uint32_t *>(panel);
    work.assign(values * 8, 0);
    float *floats = reinterpret_cast<float *>(work.data());
    if (form == Form::f32) {
        kernel.dequantize(src, floats, valid * cols);
        packing.interleave(reinterpret_cast<std::uint32_t *>(floats), valid, cols, cols, to);
        return;
    }
    std::uint16_t *high = reinterpret_cast<std::uint16_t *>(floats + values), *low = high + values;
    if (form == Form::split) {
        kernel.dequantize(src, floats, valid * cols);
        for (int i = 0; i < valid; ++i) packing.split(floats + i * cols, cols, high + i * whole, low + i * whole);
    } else {
        for (int i = 0; i < valid; ++i) std::memcpy(high + i * whole, src + i * cols * 2, std::size_t(cols) * 2);
    }
    for (std::int64_t block = 0; block < blocks; ++block) {
        const std::uint16_t *from = high + block * SPLIT_K;
        packing.interleave(reinterpret_cast<const std::uint32_t *>(from), valid, whole / 2, words, to);
        to += words * PANEL;
        if (form != Form::split) continue;
        from = low + block * SPLIT_K;
        packing.interleave(reinterpret_cast<const std::uint32_t *>(from), valid, whole / 2, words, to);
        to += words * PANEL;
    }
}

void pack_weights(const Level &level, const Kernel &kernel, const std::uint8_t *src, Panels &panels, int threads) {
    const std::int64_t rows = panels.rows, cols = panels.cols, count = (rows + PANEL - 1) / PANEL;
    const std::int64_t row_bytes = cols / kernel.block * kernel.size, bytes = panel_bytes(panels.form, cols);
    panels.memory.grow(count * bytes);
    const std::int64_t pieces = std::min<std::int64_t>(count, 4 * std::int64_t(threads));
    // Memory is taken here, where running out of it can be told.
    std::vector<std::vector<std::uint8_t>> work(static_cast<std::size_t>(pieces));
    for (auto &one : work) one.resize(std::size_t(padded(cols) * PANEL * 8));
    parallel(threads, pieces, Mode::ieee, [&](std::int64_t piece) {
        for (std::int64_t panel = count * piece / pieces; panel < count * (piece + 1) / pieces; ++panel) {
            const int valid = int(std::min<std::int64_t>(PANEL, rows - panel * PANEL));
            pack_panel(level, kernel, src + panel * PANEL * row_bytes, valid, cols, panels.form, panels.memory.data() + panel * bytes,
                       work[std::size_t(piece)]);
        }
    });
}

void multiply(const Level &level, const float *x, std::int64_t m, const Panels &weights, float *out, int threads) {
    const bool split = weights.arithmetic == Arithmetic::bf16x2;
    const Product &product = !split ? *level.forward->f32 : level.tiles ? *level.tiles : *level.forward->bf16x2;
    const std::int64_t k = weights.cols, n = weights.rows, count = (n + PANEL - 1) / PANEL;
    const std::int64_t bytes = product.packed_bytes(k);
    const std::int64_t most = std::min<std::int64_t>(product.block_rows, (m + product.rows - 1) / product.rows * product.rows);
    std::uint8_t *packed = scratch().grow(most / product.rows * bytes);
    // Pieces of at most 32 panels, which share a slice of x while it is in the second cache; as many for each thread as for any
    // other, and two at least, since a thread may be held up.
    const std::int64_t each = std::max<std::int64_t>(2, (count + 32 * std::int64_t(threads) - 1) / (32 * std::int64_t(threads)));
    const std::int64_t pieces = std::min(count, each * threads);
    for (std::int64_t first = 0; first < m; first += product.block_rows) {
        const std::int64_t rows = std::min<std::int64_t>(product.block_rows, m - first);
        const std::int64_t panels = (rows + product.rows - 1) / product.rows;
        parallel(threads, panels, Mode::ieee, [&](std::int64_t panel) {
            const std::int64_t row = panel * product.rows;
            product.pack(x + (first + row) * k, std::min<std::int64_t>(product.rows, rows - row), k, packed, panel, panels);
        });
        const Multiplication of = {packed, rows, k, weights.form, weights.memory.data(), n, out + first * n};
        parallel(threads, pieces, product.flushes ? Mode::flush : Mode::ieee, [&](std::int64_t piece) {
            product.multiply(of, count * piece / pieces, count * (piece + 1) / pieces);
        });
    }
}

}  // namespace quantmill
