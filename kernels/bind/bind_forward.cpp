// The forward pass's kernels as Python functions: every argument is checked here, then rows are shared between threads.
#include "bind/bind_forward.h"

#include <nanobind/stl/string.h>

#include <algorithm>

#include "common/pool.h"
#include "forward/matmul.h"
#include "forward/rope_table.h"

using namespace quantmill;

namespace {

using std::int64_t;

// Rows or elements worth a thread.
int64_t least_rows(int64_t n) { return std::max<int64_t>(1, 16384 / std::max<int64_t>(1, n)); }

void rms_norm(nb::handle x_, nb::handle weight_, nb::handle out_, float eps, int threads) {
    const Floats x(x_, "x", {-1, -1});
    const int64_t rows = x.size(0), n = x.size(1);
    const Floats weight(weight_, "weight", {n}), out(out_, "out", {rows, n}, true);
    same_or_separate(out, "out", x, "x");
    separate(out, "out", weight, "weight");
    checked_threads(threads);
    nb::gil_scoped_release release;
    parallel_ranges(threads, n ? rows : 0, least_rows(n), [&](int64_t first, int64_t last) {
        forward().rows->rms_norm(x.in() + first * n, weight.in(), out.out() + first * n, last - first, n, eps);
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

using Gated = void (*)(const float *, const float *, float *, int64_t);

void gated(Gated Rows::*kernel, nb::handle gate_, nb::handle up_, nb::handle out_, int threads) {
    const Floats gate(gate_, "gate", {-1, -1});
    const int64_t rows = gate.size(0), n = gate.size(1);
    const Floats up(up_, "up", {rows, n}), out(out_, "out", {rows, n}, true);
    same_or_separate(out, "out", gate, "gate");
    same_or_separate(out, "out", up, "up");
    checked_threads(threads);
    nb::gil_scoped_release release;
    parallel_ranges(threads, rows * n, 16384, [&](int64_t first, int64_t last) {
        (forward().rows->*kernel)(gate.in() + first, up.in() + first, out.out() + first, last - first);
    });
}

void add(nb::handle a_, nb::handle b_, nb::handle out_, int threads) {
    const Floats a(a_, "a", {-1, -1});
    const int64_t rows = a.size(0), n = a.size(1);
    const Floats out(out_, "out", {rows, n}, true);
    same_or_separate(out, "out", a, "a");
    checked_threads(threads);
    Py_buffer probe;
    if (PyObject_GetBuffer(b_.ptr(), &probe, PyBUF_SIMPLE | PyBUF_ND) != 0) {
        PyErr_Clear();
        fail("b must be a C-contiguous array of float32");
    }
    const int ndim = probe.ndim;
    PyBuffer_Release(&probe);
    if (ndim == 1) {
        const Floats b(b_, "b", {n});
        separate(out, "out", b, "b");
        nb::gil_scoped_release release;
        parallel_ranges(threads, rows, least_rows(n), [&](int64_t first, int64_t last) {
            for (int64_t i = first; i < last; ++i) forward().rows->add(a.in() + i * n, b.in(), out.out() + i * n, n);
        });
        return;
    }
    const Floats b(b_, "b", {rows, n});
    same_or_separate(out, "out", b, "b");
    nb::gil_scoped_release release;
    parallel_ranges(threads, rows * n, 16384, [&](int64_t first, int64_t last) {
        forward().rows->add(a.in() + first, b.in() + first, out.out() + first, last - first);
    });
}

void scale(nb::handle x_, float factor, int threads) {
    const Floats x(x_, "x", {-1, -1}, true);
    checked_threads(threads);
    nb::gil_scoped_release release;
    parallel_ranges(threads, x.size(0) * x.size(1), 16384,
                    [&](int64_t first, int64_t last) { forward().rows->scale(x.out() + first, factor, last - first); });
}

void add_rows(nb::handle acc_, nb::handle rows_, nb::handle weights_, nb::handle y_, int threads) {
    const Floats acc(acc_, "acc", {-1, -1}, true);
    const int64_t n = acc.size(1);
    const Integers rows(rows_, "rows", {-1});
    const int64_t count = rows.size(0);
    const Floats weights(weights_, "weights", {count}), y(y_, "y", {count, n});
    rows.within(acc.size(0), "rows");
    separate(acc, "acc", weights, "weights");
    separate(acc, "acc", y, "y");
    checked_threads(threads);
    nb::gil_scoped_release release;
    parallel_ranges(threads, n, 64, [&](int64_t first, int64_t last) {
        for (int64_t i = 0; i < count; ++i) {
            forward().rows->add_scaled(acc.out() + rows.in()[i] * n + first, y.in() + i * n + first, weights.in()[i], last - first);
        }
    });
}

void column_sums(nb::handle x_, nb::handle acc_, int threads) {
    const Floats x(x_, "x", {-1, -1});
    const int64_t n = x.size(1);
    const Floats acc(acc_, "acc", {n}, true);
    separate(acc, "acc", x, "x");
    checked_threads(threads);
    nb::gil_scoped_release release;
    parallel_ranges(threads, n, 256, [&](int64_t first, int64_t last) {
        forward().rows->add_squares(acc.out() + first, x.in() + first, x.size(0), n, last - first);
    });
}

void top_k(nb::handle logits_, nb::handle ids_, nb::handle weights_, bool normalize, int threads) {
    const Floats logits(logits_, "logits", {-1, -1});
    const int64_t m = logits.size(0), n = logits.size(1);
    const Integers ids(ids_, "ids", {m, -1}, true);
    const int64_t k = ids.size(1);
    const Floats weights(weights_, "weights", {m, k}, true);
    if (k > n) fail("ids must have at most " + std::to_string(n) + " columns, one an expert, not " + std::to_string(k));
    separate(ids, "ids", logits, "logits");
    separate(weights, "weights", logits, "logits");
    separate(weights, "weights", ids, "ids");
    checked_threads(threads);
    nb::gil_scoped_release release;
    Memory all(m * n * 4 + 64);
    float *p = reinterpret_cast<float *>(all.data());
    parallel_ranges(threads, n ? m : 0, least_rows(n), [&](int64_t first, int64_t last) {
        std::copy(logits.in() + first * n, logits.in() + last * n, p + first * n);
        forward().rows->softmax(p + first * n, last - first, n);
        for (int64_t i = first; i < last; ++i) {
            float *row = p + i * n, sum = 0;
            for (int64_t j = 0; j < k; ++j) {
                // Taken ones are below every probability; a NaN is never the largest, so the first one left stands for it.
                int64_t best = 0;
                while (row[best] == -1.f) ++best;
                for (int64_t e = best + 1; e < n; ++e) best = row[e] > row[best] ? e : best;
                ids.data<std::int32_t>()[i * k + j] = std::int32_t(best);
                weights.out()[i * k + j] = row[best];
                sum += row[best];
                row[best] = -1.f;
            }
            for (int64_t j = 0; j < k && normalize; ++j) weights.out()[i * k + j] /= sum;
        }
    });
}

void nll(nb::handle logits_, nb::handle targets_, nb::handle out_, nb::handle top_, int threads) {
    const Floats logits(logits_, "logits", {-1, -1});
    const int64_t m = logits.size(0), n = logits.size(1);
    const Integers targets(targets_, "targets", {m}), top(top_, "top", {m}, true);
    const Buffer out(out_, "out", "d", "float64", 1, true);
    Floats::check(out, "out", {m});
    targets.within(n, "targets");
    separate(out, "out", logits, "logits");
    separate(out, "out", targets, "targets");
    separate(out, "out", top, "top");
    separate(top, "top", logits, "logits");
    separate(top, "top", targets, "targets");
    checked_threads(threads);
    nb::gil_scoped_release release;
    parallel(threads, m, Mode::ieee, [&](int64_t i) {
        out.data<double>()[i] = forward().scores->nll(logits.in() + i * n, n, targets.in()[i], top.data<std::int32_t>() + i);
    });
}

void kld(nb::handle base_, nb::handle logits_, nb::handle out_, int threads) {
    const Floats base(base_, "base", {-1, -1});
    const int64_t m = base.size(0), n = base.size(1);
    const Floats logits(logits_, "logits", {m, n});
    const Buffer out(out_, "out", "d", "float64", 1, true);
    Floats::check(out, "out", {m});
    if (m && !n) fail("base must have at least one column");
    separate(out, "out", base, "base");
    separate(out, "out", logits, "logits");
    checked_threads(threads);
    nb::gil_scoped_release release;
    parallel(threads, m, Mode::ieee,
             [&](int64_t i) { out.data<double>()[i] = forward().scores->kld(base.in() + i * n, logits.in() + i * n, n); });
}

}  // namespace

void quantmill::bind_forward(nb::module_ &m) {
    bind_attention(m);
    bind_matmul(m);
    const auto threads = nb::arg("threads");
    m.def("rms_norm", &rms_norm, nb::arg("x"), nb::arg("weight"), nb::arg("out"), nb::arg("eps"), threads);
    m.def("softmax", &softmax, nb::arg("x"), threads);
    m.def("silu_mul", [](nb::handle gate, nb::handle up, nb::handle out, int n) { gated(&Rows::silu_mul, gate, up, out, n); },
          nb::arg("gate"), nb::arg("up"), nb::arg("out"), threads);
    m.def("gelu_mul", [](nb::handle gate, nb::handle up, nb::handle out, int n) { gated(&Rows::gelu_mul, gate, up, out, n); },
          nb::arg("gate"), nb::arg("up"), nb::arg("out"), threads);
    m.def("add", &add, nb::arg("a"), nb::arg("b"), nb::arg("out"), threads);
    m.def("scale", &scale, nb::arg("x"), nb::arg("factor"), threads);
    m.def("add_rows", &add_rows, nb::arg("acc"), nb::arg("rows"), nb::arg("weights"), nb::arg("y"), threads);
    m.def("column_sums", &column_sums, nb::arg("x"), nb::arg("acc"), threads);
    m.def("top_k", &top_k, nb::arg("logits"), nb::arg("ids"), nb::arg("weights"), nb::arg("normalize"), threads);
    m.def("nll", &nll, nb::arg("logits"), nb::arg("targets"), nb::arg("out"), nb::arg("top"), threads);
    m.def("kld", &kld, nb::arg("base"), nb::arg("logits"), nb::arg("out"), threads);
}
