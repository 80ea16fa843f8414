#include "forward/matmul.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <string>

#include "common/pool.h"

namespace quantmill {

Form form_of(const Kernel &kernel, Arithmetic arithmetic) {
    const std::string type = kernel.type;
    if (type == "BF16") return Form::bf16;
    if (arithmetic == Arithmetic::bf16x2) return Form::split;
    return type == "F16" ? Form::f16 : Form::f32;
}

// Columns of a panel that are packed at a time: a multiple of every type's block, and what stays in the second cache.
constexpr std::int64_t COLUMNS = 1024;
constexpr std::int64_t WORK = COLUMNS * PANEL * 8;  // bytes of rows on their way into a panel

// The columns `first` to `last` of the rows of one panel, as rows of 32-bit words padded with zeros, then interleaved.
static void pack_columns(const Level &level, const Kernel &kernel, const std::uint8_t *src, int valid, std::int64_t cols, Form form,
                         std::uint8_t *panel, std::int64_t first, std::int64_t last, std::uint8_t *work) {
    const Packing &packing = *level.forward->packing;
    const std::int64_t some = last - first, whole = padded(some), row_bytes = cols / kernel.block * kernel.size;
    const std::uint8_t *from = src + first / kernel.block * kernel.size;
    std::uint32_t *to = reinterpret_cast<std::uint32_t *>(panel + panel_bytes(form, first));
    float *floats = reinterpret_cast<float *>(work);
    if (form == Form::f32 || form == Form::split) {
        for (int i = 0; i < valid; ++i) kernel.dequantize(from + i * row_bytes, floats + i * some, some);
    }
    if (form == Form::f32) {
        packing.interleave(reinterpret_cast<std::uint32_t *>(floats), valid, some, some, to);
        return;
    }
    std::uint16_t *high = reinterpret_cast<std::uint16_t *>(work + COLUMNS * PANEL * 4), *low = high + COLUMNS * PANEL;
    if (whole != some) std::memset(high, 0, COLUMNS * PANEL * 4);
    for (int i = 0; i < valid; ++i) {
        if (form == Form::split) {
            packing.split(floats + i * some, some, high + i * whole, low + i * whole);
        } else {
            std::memcpy(high + i * whole, from + i * row_bytes, std::size_t(some) * 2);
        }
    }
    const std::int64_t words = SPLIT_K / 2;
    for (std::int64_t column = 0; column < whole; column += SPLIT_K) {
        packing.interleave(reinterpret_cast<const std::uint32_t *>(high + column), valid, whole / 2, words, to);
        to += words * PANEL;
        if (form != Form::split) continue;
        packing.interleave(reinterpret_cast<const std::uint32_t *>(low + column), valid, whole / 2, words, to);
        to += words * PANEL;
    }
}

void pack_weights(const Level &level, const Kernel &kernel, const std::uint8_t *src, Panels &panels, int threads) {
    const std::int64_t rows = panels.rows, cols = panels.cols, count = (rows + PANEL - 1) / PANEL;
    const std::int64_t row_bytes = cols / kernel.block * kernel.size, bytes = panel_bytes(panels.form, cols);
    panels.memory.grow(count * bytes);
    const std::int64_t takers = std::min<std::int64_t>(count, threads);
    Memory work(takers * WORK);  // taken here, where running out of it can be told
    std::atomic<std::int64_t> next{0};
    parallel(threads, takers, Mode::ieee, [&](std::int64_t taker) {
        for (std::int64_t panel; (panel = next.fetch_add(1)) < count;) {
            const int valid = int(std::min<std::int64_t>(PANEL, rows - panel * PANEL));
            for (std::int64_t first = 0; first < cols; first += COLUMNS) {
                pack_columns(level, kernel, src + panel * PANEL * row_bytes, valid, cols, panels.form,
                             panels.memory.data() + panel * bytes, first, std::min(first + COLUMNS, cols), work.data() + taker * WORK);
            }
        }
    });
}

void multiply(const Level &level, const float *x, std::int64_t m, const std::vector<Task> &tasks, int threads) {
    const bool split = tasks.front().weights->arithmetic == Arithmetic::bf16x2;
    const Product &product = !split ? *level.forward->f32 : level.bf16x2 ? *level.bf16x2 : *level.forward->bf16x2;
    const std::int64_t k = tasks.front().weights->cols, bytes = product.packed_bytes(k);
    const std::int64_t most = std::min<std::int64_t>(product.block_rows, (m + product.rows - 1) / product.rows * product.rows);
    std::uint8_t *packed = scratch().grow(most / product.rows * bytes);  // as budget.py counts it
    for (std::int64_t first = 0; first < m; first += product.block_rows) {
        const std::int64_t rows = std::min<std::int64_t>(product.block_rows, m - first);
        const std::int64_t panels = (rows + product.rows - 1) / product.rows;
        parallel(threads, panels, Mode::ieee, [&](std::int64_t panel) {
            const std::int64_t row = panel * product.rows;
            product.pack(x + (first + row) * k, std::min<std::int64_t>(product.rows, rows - row), k, packed, panel, panels);
        });
        for (const Task &task : tasks) {
            const Panels &w = *task.weights;
            const std::int64_t n = w.rows, count = (n + PANEL - 1) / PANEL, many = 32 * std::int64_t(threads);
            // Pieces of at most 32 panels, which share a slice of x while it is in the second cache; as many for each thread as
            // for any other, and two at least, since a thread may be held up.
            const std::int64_t pieces = std::min(count, std::max<std::int64_t>(2, (count + many - 1) / many) * threads);
            const Multiplication of = {packed, rows, k, w.form, w.memory.data(), n, task.out + first * n};
            parallel(threads, pieces, product.flushes ? Mode::flush : Mode::ieee, [&](std::int64_t piece) {
                product.multiply(of, count * piece / pieces, count * (piece + 1) / pieces);
            });
        }
    }
}

}  // namespace quantmill
