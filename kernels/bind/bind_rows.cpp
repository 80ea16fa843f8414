// Norms, activations and other work on rows and single elements as Python functions.
#include <nanobind/stl/string.h>

#include <cmath>

#include "bind/bind_forward.h"
#include "common/pool.h"

using namespace quantmill;

namespace {

using std::int64_t;

constexpr int64_t LEAST = 16384;  // elements worth a thread

void check_groups(int64_t groups, int64_t n) {
    if (groups < 1 || n % groups) fail("groups must divide the " + std::to_string(n) + " columns, not be " + std::to_string(groups));
}

void rms_norm(nb::handle x_, nb::handle weight_, nb::handle out_, float eps, int threads, int64_t groups) {
    const Floats x(x_, "x", {-1, -1});
    const int64_t rows = x.size(0), n = x.size(1);
    const OptionalFloats weight(weight_, "weight", {n});
    const Floats out(out_, "out", {rows, n}, true);
    check_groups(groups, n);
    same_or_separate(out, "out", x, "x");
    weight.apart(out, "out");
    checked_threads(threads);
    nb::gil_scoped_release release;
    parallel_ranges(threads, n ? rows : 0, least_rows(n), [&](int64_t first, int64_t last) {
        forward().rows->rms_norm(x.in() + first * n, weight.in(), out.out() + first * n, last - first, n, groups, eps);
    });
}

void layer_norm(nb::handle x_, nb::handle weight_, nb::handle bias_, nb::handle out_, float eps, int threads, int64_t groups) {
    const Floats x(x_, "x", {-1, -1});
    const int64_t rows = x.size(0), n = x.size(1);
    const OptionalFloats weight(weight_, "weight", {n}), bias(bias_, "bias", {n});
    const Floats out(out_, "out", {rows, n}, true);
    check_groups(groups, n);
    same_or_separate(out, "out", x, "x");
    weight.apart(out, "out");
    bias.apart(out, "out");
    checked_threads(threads);
    nb::gil_scoped_release release;
    parallel_ranges(threads, n ? rows : 0, least_rows(n), [&](int64_t first, int64_t last) {
        forward().rows->layer_norm(x.in() + first * n, weight.in(), bias.in(), out.out() + first * n, last - first, n, groups, eps);
    });
}

void l2_norm(nb::handle x_, nb::handle out_, float eps, int threads, bool inside) {
    const Floats x(x_, "x", {-1, -1});
    const int64_t rows = x.size(0), n = x.size(1);
    const Floats out(out_, "out", {rows, n}, true);
    same_or_separate(out, "out", x, "x");
    checked_threads(threads);
    nb::gil_scoped_release release;
    parallel_ranges(threads, n ? rows : 0, least_rows(n), [&](int64_t first, int64_t last) {
        forward().rows->l2_norm(x.in() + first * n, out.out() + first * n, last - first, n, eps, inside);
    });
}

void softmax(nb::handle x_, int threads) {
    const Floats x(x_, "x", {-1, -1}, true);
    const int64_t n = x.size(1);
    checked_threads(threads);
    nb::gil_scoped_release release;
    parallel_ranges(threads, n ? x.size(0) : 0, least_rows(n),
                    [&](int64_t first, int64_t last) { forward().rows->softmax(x.out() + first * n, last - first, n); });
}

Activation activation_named(const std::string &name) {
    std::string names;
    int i = 0;
    for (const char *known : ACTIVATIONS) {
        if (name == known) return Activation(i);
        names += (i++ ? ", " : "") + std::string(known);
    }
    fail("activation must be one of " + names + ", not \"" + name + "\"");
}

void activate(const std::string &name, nb::handle x_, nb::handle out_, int threads) {
    const Activation kind = activation_named(name);
    const Floats x(x_, "x", {-1, -1});
    const int64_t rows = x.size(0), n = x.size(1);
    const Floats out(out_, "out", {rows, n}, true);
    same_or_separate(out, "out", x, "x");
    checked_threads(threads);
    nb::gil_scoped_release release;
    parallel_ranges(threads, rows * n, LEAST, [&](int64_t first, int64_t last) {
        forward().gates->activate(kind, x.in() + first, out.out() + first, last - first);
    });
}

// Calls work(gate, up, out, count) for ranges of the elements.
template <class Work>
void of_gate_and_up(nb::handle gate_, nb::handle up_, nb::handle out_, int threads, const Work &work) {
    const Floats gate(gate_, "gate", {-1, -1});
    const int64_t rows = gate.size(0), n = gate.size(1);
    const Floats up(up_, "up", {rows, n}), out(out_, "out", {rows, n}, true);
    same_or_separate(out, "out", gate, "gate");
    same_or_separate(out, "out", up, "up");
    checked_threads(threads);
    nb::gil_scoped_release release;
    parallel_ranges(threads, rows * n, LEAST, [&](int64_t first, int64_t last) {
        work(gate.in() + first, up.in() + first, out.out() + first, last - first);
    });
}

void gated(Activation kind, nb::handle gate_, nb::handle up_, nb::handle out_, int threads) {
    of_gate_and_up(gate_, up_, out_, threads, [&](const float *gate, const float *up, float *out, int64_t count) {
        forward().gates->gate(kind, gate, up, out, count);
    });
}

void clamped_swiglu(nb::handle gate_, nb::handle up_, nb::handle out_, float alpha, float limit, float shift, int threads) {
    if (!(limit > 0)) fail("limit must be above 0, not " + std::to_string(limit));
    of_gate_and_up(gate_, up_, out_, threads, [&](const float *gate, const float *up, float *out, int64_t count) {
        forward().gates->clamped_gate(gate, up, out, count, alpha, limit, shift);
    });
}

using Pairwise = void (*)(const float *, const float *, float *, int64_t);

// `b` has the shape of `a` or is one row.
void pairwise(Pairwise run, nb::handle a_, nb::handle b_, nb::handle out_, int threads) {
    const Floats a(a_, "a", {-1, -1});
    const int64_t rows = a.size(0), n = a.size(1);
    const Floats out(out_, "out", {rows, n}, true);
    same_or_separate(out, "out", a, "a");
    checked_threads(threads);
    if (dimensions_of(b_, "b") == 1) {
        const Floats b(b_, "b", {n});
        separate(out, "out", b, "b");
        nb::gil_scoped_release release;
        parallel_ranges(threads, rows, least_rows(n), [&](int64_t first, int64_t last) {
            for (int64_t i = first; i < last; ++i) run(a.in() + i * n, b.in(), out.out() + i * n, n);
        });
        return;
    }
    const Floats b(b_, "b", {rows, n});
    same_or_separate(out, "out", b, "b");
    nb::gil_scoped_release release;
    parallel_ranges(threads, rows * n, LEAST, [&](int64_t first, int64_t last) {
        run(a.in() + first, b.in() + first, out.out() + first, last - first);
    });
}

void scale_rows(nb::handle x_, nb::handle factors_, int threads) {
    const Floats x(x_, "x", {-1, -1}, true);
    const int64_t n = x.size(1);
    const Floats factors(factors_, "factors", {x.size(0)});
    separate(x, "x", factors, "factors");
    checked_threads(threads);
    nb::gil_scoped_release release;
    parallel_ranges(threads, n ? x.size(0) : 0, least_rows(n), [&](int64_t first, int64_t last) {
        for (int64_t i = first; i < last; ++i) forward().rows->scale(x.out() + i * n, factors.in()[i], n);
    });
}

// Calls work(x, count) for ranges of the elements, in place.
template <class Work>
void in_place(nb::handle x_, int threads, const Work &work) {
    const Floats x(x_, "x", {-1, -1}, true);
    checked_threads(threads);
    nb::gil_scoped_release release;
    parallel_ranges(threads, x.size(0) * x.size(1), LEAST, [&](int64_t first, int64_t last) { work(x.out() + first, last - first); });
}

void scale(nb::handle x, float factor, int threads) {
    in_place(x, threads, [&](float *at, int64_t count) { forward().rows->scale(at, factor, count); });
}

void soft_cap(nb::handle x, float cap, int threads) {
    if (!(cap > 0) || !std::isfinite(cap)) fail("cap must be above 0, not " + std::to_string(cap));
    in_place(x, threads, [&](float *at, int64_t count) { forward().gates->soft_cap(at, cap, count); });
}

void clamp(nb::handle x, float low, float high, int threads) {
    if (!(low <= high)) fail("low must be at most high, not " + std::to_string(low));
    in_place(x, threads, [&](float *at, int64_t count) { forward().gates->clamp(at, low, high, count); });
}

}  // namespace

void quantmill::bind_rows(nb::module_ &m) {
    const auto threads = nb::arg("threads"), x = nb::arg("x"), out = nb::arg("out"), gate = nb::arg("gate"), up = nb::arg("up");
    m.def("rms_norm", &rms_norm, x, nb::arg("weight").none(), out, nb::arg("eps"), threads, nb::kw_only(), nb::arg("groups") = 1);
    m.def("layer_norm", &layer_norm, x, nb::arg("weight").none(), nb::arg("bias").none(), out, nb::arg("eps"), threads, nb::kw_only(),
          nb::arg("groups") = 1);
    m.def("l2_norm", &l2_norm, x, out, nb::arg("eps"), threads, nb::kw_only(), nb::arg("inside") = false);
    m.def("softmax", &softmax, x, threads);
    m.def("activate", &activate, nb::arg("activation"), x, out, threads);
    m.def("gated", [](const std::string &name, nb::handle g, nb::handle u, nb::handle o, int n) { gated(activation_named(name), g, u, o, n); },
          nb::arg("activation"), gate, up, out, threads);
    m.def("silu_mul", [](nb::handle g, nb::handle u, nb::handle o, int n) { gated(Activation::silu, g, u, o, n); }, gate, up, out, threads);
    m.def("gelu_mul", [](nb::handle g, nb::handle u, nb::handle o, int n) { gated(Activation::gelu, g, u, o, n); }, gate, up, out, threads);
    m.def("clamped_swiglu", &clamped_swiglu, gate, up, out, nb::arg("alpha"), nb::arg("limit"), nb::arg("shift"), threads);
    m.def("add", [](nb::handle a, nb::handle b, nb::handle o, int n) { pairwise(forward().rows->add, a, b, o, n); }, nb::arg("a"),
          nb::arg("b"), out, threads);
    m.def("multiply", [](nb::handle a, nb::handle b, nb::handle o, int n) { pairwise(forward().gates->multiply, a, b, o, n); },
          nb::arg("a"), nb::arg("b"), out, threads);
    m.def("scale", &scale, x, nb::arg("factor"), threads);
    m.def("scale_rows", &scale_rows, x, nb::arg("factors"), threads);
    m.def("soft_cap", &soft_cap, x, nb::arg("cap"), threads);
    m.def("clamp", &clamp, x, nb::arg("low"), nb::arg("high"), threads);
}
