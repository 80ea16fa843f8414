// The module: it checks every argument, lets go of the interpreter and calls a kernel. Only the binding files know Python.
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <atomic>
#include <cstdlib>
#include <optional>

#include "bind/bind_forward.h"
#include "bind/bind_infer.h"

using namespace quantmill;

static std::atomic<const Level *> current;

const Level &quantmill::current_level() { return *current.load(); }

// Those of `kind` at most, and models never.
static std::vector<std::string> levels_up_to(Kind kind) {
    std::vector<std::string> names;
    for (const Level *level : runnable_levels()) {
        if (level->kind != Kind::model && level->kind <= kind) names.push_back(level->name);
    }
    return names;
}

static const Level *level_named(const std::string &name) {
    std::string known;
    for (const Level *level : runnable_levels()) {
        if (name == level->name) return level;
    }
    for (const std::string &one : levels_up_to(Kind::forward)) known += (known.empty() ? "" : ", ") + one;
    fail("this machine cannot run the kernels of level '" + name + "'; it runs " + known);
}

const Kernel &quantmill::kernel_named(const std::string &type, bool to_quantize) {
    const Kernel *kernel = find_kernel(current_level(), type);
    if (!kernel || (to_quantize && !kernel->quantize)) {
        fail("no kernel " + std::string(to_quantize ? "quantizes to" : "dequantizes") + " '" + type + "'");
    }
    return *kernel;
}

std::int64_t quantmill::quantized_bytes(const Kernel &kernel, std::int64_t rows, std::int64_t cols) {
    if (cols % kernel.block) {
        fail("rows of " + std::to_string(cols) + " weights are not made of whole " + kernel.type + " blocks of " +
             std::to_string(kernel.block));
    }
    return rows * (cols / kernel.block) * kernel.size;
}

static void expect_bytes(const Buffer &buffer, const char *name, const Kernel &kernel, std::int64_t rows, std::int64_t cols) {
    const std::int64_t bytes = quantized_bytes(kernel, rows, cols);
    if (buffer.size(0) != bytes) {
        fail(std::string(name) + " must have " + std::to_string(bytes) + " bytes for " + std::to_string(rows) + " rows of " +
             std::to_string(cols) + " weights as " + kernel.type + ", not " + std::to_string(buffer.size(0)));
    }
}

// What quantize and quantize_stored share: the type's kernel, the arithmetic and an importance vector that is None or fits.
struct Target {
    Target(const std::string &type, nb::handle vector, int changes) : kernel(kernel_named(type, true)), arithmetic{changes} {
        if (changes < Changes::NONE || changes > Changes::ALL) {
            fail("arithmetic must be " + std::to_string(Changes::NONE) + " to " + std::to_string(Changes::ALL) + ", not " +
                 std::to_string(changes));
        }
        if (!vector.is_none()) importance.emplace(vector, "importance", "f", "float32", 1, false);
    }
    void check(const Buffer &out, std::int64_t rows, std::int64_t cols) const {
        expect_bytes(out, "dst", kernel, rows, cols);
        if (!importance && kernel.needs_importance) fail(std::string(kernel.type) + " needs an importance vector");
        if (!importance) return;
        if (importance->size(0) != cols) {
            fail("importance must have one value for each of the " + std::to_string(cols) + " columns, not " +
                 std::to_string(importance->size(0)));
        }
        if (importance->overlaps(out)) fail("importance and dst must not overlap");
    }
    const float *values() const { return importance ? importance->data<const float>() : nullptr; }

    const Kernel &kernel;
    const Changes arithmetic;
    std::optional<Buffer> importance;
};

static void quantize(const std::string &type, nb::handle src, nb::handle dst, nb::handle importance, int arithmetic) {
    const Target target(type, importance, arithmetic);
    const Buffer in(src, "src", "f", "float32", 2, false), out(dst, "dst", "B", "uint8", 1, true);
    const std::int64_t rows = in.size(0), cols = in.size(1);
    target.check(out, rows, cols);
    if (in.overlaps(out)) fail("src and dst must not overlap");
    if (out.size(0) == 0) return;  // rows without columns may claim any number
    nb::gil_scoped_release release;
    target.kernel.quantize(in.data<const float>(), out.data<std::uint8_t>(), rows, cols, target.values(), target.arithmetic);
}

static void dequantize(const std::string &type, nb::handle src, nb::handle dst) {
    const Kernel &kernel = kernel_named(type, false);
    const Buffer in(src, "src", "B", "uint8", 1, false), out(dst, "dst", "f", "float32", 2, true);
    const std::int64_t rows = out.size(0), cols = out.size(1);
    expect_bytes(in, "src", kernel, rows, cols);
    if (in.overlaps(out)) fail("src and dst must not overlap");
    if (in.size(0) == 0) return;
    nb::gil_scoped_release release;
    kernel.dequantize(in.data<const std::uint8_t>(), out.data<float>(), rows * cols);
}

static bool quantize_stored(const std::string &source, nb::handle src, const std::string &type, nb::handle dst, nb::handle tile,
                    nb::handle importance, int arithmetic) {
    const Kernel &from = kernel_named(source, false);
    const Target target(type, importance, arithmetic);
    const Buffer in(src, "src", "B", "uint8", 1, false), out(dst, "dst", "B", "uint8", 1, true);
    const Buffer room(tile, "tile", "f", "float32", 2, true);
    const std::int64_t tile_rows = room.size(0), cols = room.size(1), row_bytes = quantized_bytes(from, 1, cols);
    if (tile_rows == 0 || cols == 0) fail("tile must have rows and columns");
    const std::int64_t rows = in.size(0) / row_bytes;
    expect_bytes(in, "src", from, rows, cols);
    target.check(out, rows, cols);
    if (in.overlaps(out)) fail("src and dst must not overlap");
    if (room.overlaps(in) || room.overlaps(out) || (target.importance && room.overlaps(*target.importance))) {
        fail("tile must not overlap another array");
    }
    const Convert run = *current_level().convert;
    nb::gil_scoped_release release;
    return run({&from, &target.kernel, in.data<const std::uint8_t>(), out.data<std::uint8_t>(), rows, cols, room.data<float>(),
                tile_rows, target.values(), target.arithmetic});
}

static std::vector<std::string> quantize_types() {
    const Level &level = current_level();
    std::vector<std::string> names;
    for (int i = 0; i < level.count; ++i) {
        for (int k = 0; k < level.families[i]->count; ++k) {
            if (level.families[i]->kernels[k].quantize) names.push_back(level.families[i]->kernels[k].type);
        }
    }
    return names;
}

NB_MODULE(_kernels, m) {
    const std::vector<const Level *> levels = runnable_levels();
    if (levels.empty()) throw nb::import_error("quantmill needs a processor of level x86-64-v2 or newer");
    current = levels.back();
    if (const char *forced = std::getenv("QUANTMILL_ISA"); forced && *forced) {
        try {
            current = level_named(forced);
        } catch (const std::exception &error) {
            throw nb::import_error(("QUANTMILL_ISA: " + std::string(error.what())).c_str());
        }
    }
    m.def("quantize", &quantize, nb::arg("type"), nb::arg("src"), nb::arg("dst"), nb::arg("importance") = nb::none(),
          nb::arg("arithmetic") = 1);
    m.def("dequantize", &dequantize, nb::arg("type"), nb::arg("src"), nb::arg("dst"));
    m.def("quantize_stored", &quantize_stored, nb::arg("source"), nb::arg("src"), nb::arg("type"), nb::arg("dst"), nb::arg("tile"),
          nb::arg("importance") = nb::none(), nb::arg("arithmetic") = 1);
    m.def("isa", [] { return std::string(current_level().name); });
    m.def("isa_levels", [] { return levels_up_to(Kind::own); });
    m.def("forward_levels", [] { return levels_up_to(Kind::forward); });
    m.def("set_isa", [](const std::string &level) { current = level_named(level); }, nb::arg("level"));
    m.def("quantize_types", &quantize_types);
    bind_forward(m);
    bind_infer(m);
}
