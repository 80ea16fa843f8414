// The one file that knows Python: it checks every argument, lets go of the interpreter and calls a kernel.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <atomic>
#include <cstdlib>

#include "levels.h"

namespace nb = nanobind;
using namespace quantmill;

static std::atomic<const Level *> current;

// A C-contiguous buffer of an object, held until the call is over.
class Buffer {
  public:
    Buffer(nb::handle object, const char *name, const char *format, const char *dtype, int ndim, bool writable) {
        const int flags = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0);
        if (PyObject_GetBuffer(object.ptr(), &view_, flags) != 0) {
            PyErr_Clear();
            throw nb::value_error((std::string(name) + " must be a C-contiguous" + (writable ? " writable" : "") + " array of " +
                                   dtype).c_str());
        }
        if (std::string(view_.format ? view_.format : "B") != format) {
            fail(std::string(name) + " must be an array of " + dtype + ", not of format '" +
                 (view_.format ? view_.format : "B") + "'");
        }
        if (view_.ndim != ndim) {
            fail(std::string(name) + " must have " + std::to_string(ndim) + (ndim == 1 ? " dimension" : " dimensions") + ", not " +
                 std::to_string(view_.ndim));
        }
    }
    ~Buffer() { PyBuffer_Release(&view_); }
    Buffer(const Buffer &) = delete;
    Buffer &operator=(const Buffer &) = delete;

    std::int64_t size(int axis) const { return view_.shape[axis]; }
    template <class T> T *data() const { return static_cast<T *>(view_.buf); }
    bool overlaps(const Buffer &other) const {
        const char *a = data<char>(), *b = other.data<char>();
        return a < b + other.view_.len && b < a + view_.len;
    }

  private:
    // The destructor does not run for an object whose constructor throws.
    [[noreturn]] void fail(const std::string &message) {
        PyBuffer_Release(&view_);
        throw nb::value_error(message.c_str());
    }

    Py_buffer view_;
};

[[noreturn]] static void fail(const std::string &message) { throw nb::value_error(message.c_str()); }

static std::vector<std::string> isa_levels() {
    std::vector<std::string> names;
    for (const Level *level : runnable_levels()) names.push_back(level->name);
    return names;
}

static const Level *level_named(const std::string &name) {
    std::string known;
    for (const Level *level : runnable_levels()) {
        if (name == level->name) return level;
        known += (known.empty() ? "" : ", ") + std::string(level->name);
    }
    fail("this machine cannot run the kernels of level '" + name + "'; it runs " + known);
}

static const Kernel &kernel_named(const std::string &type, bool to_quantize) {
    const Kernel *kernel = find_kernel(*current.load(), type);
    if (!kernel || (to_quantize && !kernel->quantize)) {
        fail("no kernel " + std::string(to_quantize ? "quantizes to" : "dequantizes") + " '" + type + "'");
    }
    return *kernel;
}

// Bytes of `rows` rows of `cols` weights, which the caller compares with what the array has.
static std::int64_t quantized_bytes(const Kernel &kernel, std::int64_t rows, std::int64_t cols) {
    if (cols % kernel.block) {
        fail("rows of " + std::to_string(cols) + " weights are not made of whole " + kernel.type + " blocks of " +
             std::to_string(kernel.block));
    }
    return rows * (cols / kernel.block) * kernel.size;
}

static void quantize(const std::string &type, nb::handle src, nb::handle dst, nb::handle importance, int generation) {
    const Kernel &kernel = kernel_named(type, true);
    if (generation != 1 && generation != 2) fail("generation must be 1 or 2, not " + std::to_string(generation));
    const Buffer in(src, "src", "f", "float32", 2, false), out(dst, "dst", "B", "uint8", 1, true);
    const std::int64_t rows = in.size(0), cols = in.size(1), bytes = quantized_bytes(kernel, rows, cols);
    if (out.size(0) != bytes) {
        fail("dst must have " + std::to_string(bytes) + " bytes for " + std::to_string(rows) + " rows of " +
             std::to_string(cols) + " weights as " + kernel.type + ", not " + std::to_string(out.size(0)));
    }
    if (in.overlaps(out)) fail("src and dst must not overlap");
    if (importance.is_none()) {
        if (kernel.needs_importance) fail(std::string(kernel.type) + " needs an importance vector");
        if (bytes == 0) return;
        nb::gil_scoped_release release;
        kernel.quantize(in.data<const float>(), out.data<std::uint8_t>(), rows, cols, nullptr, generation);
        return;
    }
    const Buffer weights(importance, "importance", "f", "float32", 1, false);
    if (weights.size(0) != cols) {
        fail("importance must have one value for each of the " + std::to_string(cols) + " columns, not " +
             std::to_string(weights.size(0)));
    }
    if (weights.overlaps(out)) fail("importance and dst must not overlap");
    if (bytes == 0) return;  // rows without columns may claim any number
    nb::gil_scoped_release release;
    kernel.quantize(in.data<const float>(), out.data<std::uint8_t>(), rows, cols, weights.data<const float>(), generation);
}

static void dequantize(const std::string &type, nb::handle src, nb::handle dst) {
    const Kernel &kernel = kernel_named(type, false);
    const Buffer in(src, "src", "B", "uint8", 1, false), out(dst, "dst", "f", "float32", 2, true);
    const std::int64_t rows = out.size(0), cols = out.size(1), bytes = quantized_bytes(kernel, rows, cols);
    if (in.size(0) != bytes) {
        fail("src must have " + std::to_string(bytes) + " bytes for " + std::to_string(rows) + " rows of " +
             std::to_string(cols) + " weights as " + kernel.type + ", not " + std::to_string(in.size(0)));
    }
    if (in.overlaps(out)) fail("src and dst must not overlap");
    if (bytes == 0) return;
    nb::gil_scoped_release release;
    kernel.dequantize(in.data<const std::uint8_t>(), out.data<float>(), rows * cols);
}

static std::vector<std::string> quantize_types() {
    const Level &level = *current.load();
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
          nb::arg("generation") = 1);
    m.def("dequantize", &dequantize, nb::arg("type"), nb::arg("src"), nb::arg("dst"));
    m.def("isa", [] { return std::string(current.load()->name); });
    m.def("isa_levels", &isa_levels);
    m.def("set_isa", [](const std::string &level) { current = level_named(level); }, nb::arg("level"));
    m.def("quantize_types", &quantize_types);
}
