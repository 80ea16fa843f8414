// Convolutions and layers with a state as Python functions.
#include "bind/bind_forward.h"
#include "common/memory.h"
#include "common/pool.h"

using namespace quantmill;

namespace {

using std::int64_t;

void convolve(nb::handle x_, nb::handle weight_, nb::handle bias_, nb::handle out_, int64_t sequence, int threads) {
    const Floats x(x_, "x", {-1, -1});
    const int64_t m = x.size(0), n = x.size(1);
    const Floats weight(weight_, "weight", {n, -1}), out(out_, "out", {m, n}, true);
    const int64_t width = weight.size(1);
    const OptionalFloats bias(bias_, "bias", {n});
    checked_sequence(m, sequence);
    separate(out, "out", x, "x");
    separate(out, "out", weight, "weight");
    bias.apart(out, "out");
    checked_threads(threads);
    if (m == 0 || n == 0) return;
    nb::gil_scoped_release release;
    float *const turned = reinterpret_cast<float *>(scratch().grow(n * width * 4 + 4));
    for (int64_t i = 0; i < width; ++i) {
        for (int64_t j = 0; j < n; ++j) turned[i * n + j] = weight.in()[j * width + i];
    }
    const Convolution of = {sequence, n, width, x.in(), turned, bias.in(), out.out()};
    parallel_ranges(threads, m, least_rows(n), [&](int64_t first, int64_t last) { (*forward().convolve)(of, first, last); });
}

// Runs a kernel on every tile of every head of every sequence: each thread takes pieces in turn, with scratch of its own.
template <class Kernel, class Of>
void run_tiles(const Kernel &kernel, const Of &of, int64_t sequences, int64_t heads, int64_t lanes, int threads) {
    const int64_t tiles = (lanes + kernel.lanes - 1) / kernel.lanes, pieces = sequences * heads * tiles;
    const int64_t areas = std::min<int64_t>(threads, pieces), area = (kernel.scratch_floats(of) + 15) / 16 * 16;
    if (pieces == 0) return;
    float *const free_areas = reinterpret_cast<float *>(scratch().grow(areas * area * 4));
    parallel(threads, areas, Mode::ieee, [&](int64_t taker) {
        for (int64_t i = taker; i < pieces; i += areas) {
            kernel.run(of, i / (heads * tiles), i / tiles % heads, i % tiles, free_areas + taker * area);
        }
    });
}

void whole_share(const char *of, int64_t heads, const char *name, int64_t parts) {
    if (parts < 1 || heads % parts) {
        fail(std::string(of) + "'s " + std::to_string(heads) + " heads are not a whole number for each of " + name + "'s " +
             std::to_string(parts));
    }
}

void ssm_scan(nb::handle x_, nb::handle dt_, nb::handle a_, nb::handle b_, nb::handle c_, nb::handle d_, nb::handle out_,
              int64_t sequence, int threads) {
    const bool wide = dimensions_of(a_, "a") == 2;
    const Floats x(x_, "x", {-1, -1, -1});
    const int64_t m = x.size(0), heads = x.size(1), dims = x.size(2);
    const Floats dt(dt_, "dt", {m, heads}), b(b_, "b", {m, -1, -1});
    const int64_t groups = b.size(1), states = b.size(2);
    const Floats c(c_, "c", {m, groups, states}), out(out_, "out", {m, heads, dims}, true);
    const OptionalFloats d(d_, "d", {heads}), by_head(wide ? nb::none() : nb::borrow(a_), "a", {heads}),
        by_state(wide ? nb::borrow(a_) : nb::none(), "a", {heads, states});
    if (wide && (dims != 1 || groups != 1)) {
        fail("an a of every state needs heads of 1 dimension and 1 group, not " + std::to_string(dims) + " and " + std::to_string(groups));
    }
    if (m) whole_share("x", heads, "b", groups);
    const int64_t sequences = checked_sequence(m, sequence);
    for (const auto &[in, name] : {std::pair<const Floats *, const char *>{&x, "x"}, {&dt, "dt"}, {&b, "b"}, {&c, "c"}}) {
        separate(out, "out", *in, name);
    }
    by_head.apart(out, "out");
    by_state.apart(out, "out");
    d.apart(out, "out");
    checked_threads(threads);
    nb::gil_scoped_release release;
    const Scan of = {sequence, heads, dims, groups, states, wide, x.in(), dt.in(), wide ? by_state.in() : by_head.in(), b.in(), c.in(),
                     d.in(), out.out()};
    run_tiles(*forward().scan, of, sequences, wide ? 1 : heads, wide ? heads : dims, threads);
}

void delta_net(nb::handle q_, nb::handle k_, nb::handle v_, nb::handle g_, nb::handle beta_, nb::handle out_, float scale,
               int64_t sequence, int threads, bool interleaved) {
    const bool wide = dimensions_of(g_, "g") == 3;
    const Floats q(q_, "q", {-1, -1, -1});
    const int64_t m = q.size(0), key_heads = q.size(1), key_dims = q.size(2);
    const Floats k(k_, "k", {m, key_heads, key_dims}), v(v_, "v", {m, -1, -1});
    const int64_t heads = v.size(1), value_dims = v.size(2);
    const Floats beta(beta_, "beta", {m, heads}), out(out_, "out", {m, heads, value_dims}, true);
    const OptionalFloats by_head(wide ? nb::none() : nb::borrow(g_), "g", {m, heads}),
        by_dim(wide ? nb::borrow(g_) : nb::none(), "g", {m, heads, key_dims});
    if (m) whole_share("v", heads, "k", key_heads);
    const int64_t sequences = checked_sequence(m, sequence);
    for (const auto &[in, name] : {std::pair<const Floats *, const char *>{&q, "q"}, {&k, "k"}, {&v, "v"}, {&beta, "beta"}}) {
        separate(out, "out", *in, name);
    }
    by_head.apart(out, "out");
    by_dim.apart(out, "out");
    checked_threads(threads);
    nb::gil_scoped_release release;
    const Delta of = {sequence, key_heads, heads, key_dims, value_dims, interleaved, wide, scale, q.in(), k.in(), v.in(),
                      wide ? by_dim.in() : by_head.in(), beta.in(), out.out()};
    run_tiles(*forward().delta, of, sequences, heads, value_dims, threads);
}

}  // namespace

void quantmill::bind_recurrent(nb::module_ &m) {
    const auto out = nb::arg("out"), sequence = nb::arg("sequence"), threads = nb::arg("threads");
    m.def("convolve", &convolve, nb::arg("x"), nb::arg("weight"), nb::arg("bias").none(), out, sequence, threads);
    m.def("ssm_scan", &ssm_scan, nb::arg("x"), nb::arg("dt"), nb::arg("a"), nb::arg("b"), nb::arg("c"), nb::arg("d").none(), out,
          sequence, threads);
    m.def("delta_net", &delta_net, nb::arg("q"), nb::arg("k"), nb::arg("v"), nb::arg("g"), nb::arg("beta"), out, nb::arg("scale"),
          sequence, threads, nb::kw_only(), nb::arg("interleaved") = true);
}
