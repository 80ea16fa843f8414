// The matrix product as Python functions: weights are packed once into a Panels object.
#include <nanobind/stl/string.h>

#include <atomic>
#include <memory>
#include <vector>

#include "bind/bind_forward.h"
#include "common/pool.h"
#include "forward/matmul.h"

using namespace quantmill;

namespace {

using std::int64_t;

const char *name_of(Arithmetic arithmetic) { return arithmetic == Arithmetic::f32 ? "f32" : "bf16x2"; }

Arithmetic arithmetic_named(const std::string &name) {
    for (const Arithmetic one : {Arithmetic::f32, Arithmetic::bf16x2}) {
        if (name == name_of(one)) return one;
    }
    fail("arithmetic must be \"f32\" or \"bf16x2\", not \"" + name + "\"");
}

void repack(Panels &panels, const std::string &type, nb::handle src_, int64_t rows, int64_t cols, int threads) {
    const Level &level = current_level();
    const Kernel &kernel = kernel_named(type, false);
    const Buffer src(src_, "src", "B", "uint8", 1, false);
    if (rows < 0 || cols < 0 || rows >= int64_t(1) << 30 || cols >= int64_t(1) << 30) {
        fail("rows and cols must be 0 to 2^30 - 1, not " + std::to_string(rows) + " and " + std::to_string(cols));
    }
    const int64_t bytes = quantized_bytes(kernel, rows, cols);
    if (src.size(0) != bytes) {
        fail("src must have " + std::to_string(bytes) + " bytes for " + std::to_string(rows) + " rows of " + std::to_string(cols) +
             " weights as " + kernel.type + ", not " + std::to_string(src.size(0)));
    }
    checked_threads(threads);
    nb::gil_scoped_release release;
    panels.form = form_of(kernel, panels.arithmetic);
    panels.rows = rows;
    panels.cols = cols;
    pack_weights(level, kernel, src.data<const std::uint8_t>(), panels, threads);
}

Panels *pack(const std::string &type, nb::handle src, int64_t rows, int64_t cols, const std::string &arithmetic, int threads) {
    auto panels = std::unique_ptr<Panels>(new Panels{arithmetic_named(arithmetic), Form::f32, 0, 0, {}});
    repack(*panels, type, src, rows, cols, threads);
    return panels.release();
}

void matmul(nb::handle x_, const Panels &w, nb::handle out_, int threads) {
    const Floats x(x_, "x", {-1, w.cols}), out(out_, "out", {x.size(0), w.rows}, true);
    separate(out, "out", x, "x");
    checked_threads(threads);
    if (x.size(0) == 0 || w.rows == 0) return;
    nb::gil_scoped_release release;
    multiply(current_level(), x.in(), x.size(0), {{&w, out.out()}}, threads);
}

void matmuls(nb::handle x_, nb::list ws, nb::list outs, int threads) {
    if (ws.size() == 0 || ws.size() != outs.size()) {
        fail("ws must be one or more and as many as outs, not " + std::to_string(ws.size()) + " and " + std::to_string(outs.size()));
    }
    std::vector<std::unique_ptr<Floats>> held;
    std::vector<Task> tasks;
    const Panels &first = nb::cast<const Panels &>(ws[0]);
    const Floats x(x_, "x", {-1, first.cols});
    for (std::size_t i = 0; i < ws.size(); ++i) {
        const Panels &w = nb::cast<const Panels &>(ws[i]);
        if (w.arithmetic != first.arithmetic) fail("ws must be of one arithmetic");
        if (w.cols != first.cols) {
            fail("ws must be equally wide, not " + std::to_string(first.cols) + " and " + std::to_string(w.cols));
        }
        held.push_back(std::make_unique<Floats>(outs[i], "out", std::initializer_list<int64_t>{x.size(0), w.rows}, true));
        separate(*held.back(), "out", x, "x");
        for (std::size_t j = 0; j < i; ++j) separate(*held.back(), "out", *held[j], "another");
        tasks.push_back({&w, held.back()->out()});
    }
    checked_threads(threads);
    if (x.size(0) == 0) return;
    nb::gil_scoped_release release;
    multiply(current_level(), x.in(), x.size(0), tasks, threads);
}

// Operations of fma loops that touch no memory, one loop a thread.
int64_t fma_operations(int64_t steps, int threads) {
    if (steps < 0 || steps > int64_t(1) << 40) fail("steps must be 0 to 2^40, not " + std::to_string(steps));
    checked_threads(threads);
    std::atomic<int64_t> operations{0};
    nb::gil_scoped_release release;
    parallel(threads, threads, Mode::ieee, [&](int64_t) {
        float sink = 0.5f;
        operations += (*forward().peak)(steps, &sink);
    });
    return operations;
}

}  // namespace

void quantmill::bind_matmul(nb::module_ &m) {
    nb::class_<Panels>(m, "Panels")
        .def_ro("rows", &Panels::rows)
        .def_ro("cols", &Panels::cols)
        .def_prop_ro("arithmetic", [](const Panels &panels) { return std::string(name_of(panels.arithmetic)); })
        .def_prop_ro("nbytes", [](const Panels &panels) { return panels.memory.size(); });
    m.def("pack", &pack, nb::arg("type"), nb::arg("src"), nb::arg("rows"), nb::arg("cols"), nb::arg("arithmetic"), nb::arg("threads"),
          nb::rv_policy::take_ownership);
    m.def("repack", &repack, nb::arg("panels"), nb::arg("type"), nb::arg("src"), nb::arg("rows"), nb::arg("cols"), nb::arg("threads"));
    m.def("matmul", &matmul, nb::arg("x"), nb::arg("w"), nb::arg("out"), nb::arg("threads"));
    m.def("matmuls", &matmuls, nb::arg("x"), nb::arg("ws"), nb::arg("outs"), nb::arg("threads"));
    m.def("fma_operations", &fma_operations, nb::arg("steps"), nb::arg("threads"));
}
