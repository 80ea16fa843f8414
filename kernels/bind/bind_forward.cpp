// The forward pass's kernels as Python functions: every argument is checked here, then rows are shared between threads. Here:
// sums over rows, and what logits say.
#include "bind/bind_forward.h"

#include "common/pool.h"

using namespace quantmill;

namespace {

using std::int64_t;

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
    bind_rows(m);
    bind_routing(m);
    bind_recurrent(m);
    const auto threads = nb::arg("threads");
    m.def("add_rows", &add_rows, nb::arg("acc"), nb::arg("rows"), nb::arg("weights"), nb::arg("y"), threads);
    m.def("column_sums", &column_sums, nb::arg("x"), nb::arg("acc"), threads);
    m.def("nll", &nll, nb::arg("logits"), nb::arg("targets"), nb::arg("out"), nb::arg("top"), threads);
    m.def("kld", &kld, nb::arg("base"), nb::arg("logits"), nb::arg("out"), threads);
}
