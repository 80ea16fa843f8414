// Attention and rotary positions as Python functions.
#include <nanobind/stl/string.h>

#include <cmath>

#include "bind/bind_forward.h"
#include "common/memory.h"
#include "common/pool.h"
#include "forward/rope_table.h"

using namespace quantmill;

namespace {

using std::int64_t;

// Angles up to 2^20 quarter turns are reduced exactly enough.
constexpr double MOST_ANGLE = 1 << 20;

void make_rope_table(int64_t dims, double base, nb::handle cos_, nb::handle sin_, double scale, nb::handle factors_,
                     double ext_factor, double attn_factor, double beta_fast, double beta_slow, int64_t original_context,
                     int64_t first) {
    if (dims < 2 || dims % 2) fail("dims must be even and at least 2, not " + std::to_string(dims));
    if (!(base > 1 && base < 1e30)) fail("base must be above 1 and below 1e30, not " + std::to_string(base));
    if (!(scale > 0 && scale <= 1)) fail("scale must be above 0 and at most 1, not " + std::to_string(scale));
    if (ext_factor != 0 && !(original_context > 0 && beta_fast > 0 && beta_slow > 0)) {
        fail("ext_factor needs an original_context, a beta_fast and a beta_slow above 0");
    }
    if (!std::isfinite(ext_factor) || !std::isfinite(attn_factor)) fail("ext_factor and attn_factor must be finite");
    const Floats cos(cos_, "cos", {-1, dims / 2}, true);
    const int64_t positions = cos.size(0);
    const Floats sin(sin_, "sin", {positions, dims / 2}, true);
    separate(cos, "cos", sin, "sin");
    if (first < 0 || first > int64_t(1) << 24) fail("first must be 0 to 2^24, not " + std::to_string(first));
    RopeTable table = {dims, base, scale, ext_factor, attn_factor, beta_fast, beta_slow, original_context, nullptr};
    double least = 1;
    const auto run = [&] {
        if (double(first + positions) / least > MOST_ANGLE) fail("positions must stay below angles of " + std::to_string(MOST_ANGLE));
        nb::gil_scoped_release release;
        rope_table(table, first, positions, cos.out(), sin.out());
    };
    if (factors_.is_none()) return run();
    const Floats factors(factors_, "freq_factors", {dims / 2});
    separate(cos, "cos", factors, "freq_factors");
    separate(sin, "sin", factors, "freq_factors");
    for (int64_t i = 0; i < dims / 2; ++i) {
        if (!(factors.in()[i] > 0)) fail("freq_factors must be above 0, not " + std::to_string(factors.in()[i]));
        least = std::min(least, double(factors.in()[i]));
    }
    table.factors = factors.in();
    run();
}

void rope(nb::handle x_, nb::handle cos_, nb::handle sin_, const std::string &mode, int64_t sequence, int threads, int64_t offset) {
    const Floats x(x_, "x", {-1, -1, -1}, true);
    const int64_t m = x.size(0), heads = x.size(1), dims = x.size(2);
    const Floats cos(cos_, "cos", {-1, -1});
    const int64_t half = cos.size(1);
    const Floats sin(sin_, "sin", {cos.size(0), half});
    if (mode != "neox" && mode != "norm") fail("mode must be \"neox\" or \"norm\", not \"" + mode + "\"");
    if (offset < 0 || offset > dims) fail("offset must be 0 to " + std::to_string(dims) + ", not " + std::to_string(offset));
    if (2 * half > dims - offset) {
        fail("cos must have at most " + std::to_string((dims - offset) / 2) + " columns, not " + std::to_string(half));
    }
    checked_sequence(m, sequence);
    if (m && sequence > cos.size(0)) {
        fail("cos has " + std::to_string(cos.size(0)) + " positions, fewer than a sequence of " + std::to_string(sequence));
    }
    separate(x, "x", cos, "cos");
    separate(x, "x", sin, "sin");
    checked_threads(threads);
    const bool neox = mode == "neox";
    nb::gil_scoped_release release;
    parallel_ranges(threads, m, 16, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            const int64_t at = i % sequence * half;
            forward().rows->rope(x.out() + i * heads * dims + offset, cos.in() + at, sin.in() + at, heads, dims, half, neox);
        }
    });
}

void attention(nb::handle q_, nb::handle k_, nb::handle v_, nb::handle out_, float scale, int64_t sequence, int64_t window,
               int threads, int64_t chunk, float soft_cap, nb::handle sinks_, nb::handle slopes_) {
    const Floats q(q_, "q", {-1, -1, -1});
    const int64_t m = q.size(0), heads = q.size(1), dims = q.size(2);
    const Floats k(k_, "k", {m, -1, dims});
    const int64_t kv_heads = k.size(1);
    const Floats v(v_, "v", {m, kv_heads, -1});
    const int64_t value_dims = v.size(2);
    const Floats out(out_, "out", {m, heads, value_dims}, true);
    if (kv_heads < 1 || heads % kv_heads) {
        fail("q's " + std::to_string(heads) + " heads are not a whole number for each of k's " + std::to_string(kv_heads));
    }
    if (window < 0) fail("window must be 0 (none) or more, not " + std::to_string(window));
    if (chunk < 0) fail("chunk must be 0 (none) or more, not " + std::to_string(chunk));
    if (!(soft_cap >= 0) || !std::isfinite(soft_cap)) fail("soft_cap must be 0 (none) or more, not " + std::to_string(soft_cap));
    const OptionalFloats sinks(sinks_, "sinks", {heads}), slopes(slopes_, "slopes", {heads});
    const int64_t sequences = checked_sequence(m, sequence);
    sinks.apart(out, "out");
    slopes.apart(out, "out");
    separate(out, "out", q, "q");
    separate(out, "out", k, "k");
    separate(out, "out", v, "v");
    checked_threads(threads);
    if (m == 0 || heads == 0) return;
    nb::gil_scoped_release release;
    Attention of = {sequence, heads, kv_heads,   dims,        value_dims, window,  chunk,  scale,
                    soft_cap, q.in(), k.in(), v.in(), sinks.in(), slopes.in(), out.out(), nullptr};
    const Attend &attend = *forward().attend;
    const int64_t blocks = (sequence + attend.block - 1) / attend.block, pieces = sequences * heads * blocks;
    // As many scratch areas as pieces run at once, each taken by one piece after the other.
    const int64_t areas = std::min<int64_t>(threads, pieces), area = (attend.scratch_floats(of) + 15) / 16 * 16;
    of.packed = reinterpret_cast<float *>(scratch().grow((sequences * kv_heads * attend.packed_floats(of) + areas * area) * 4));
    float *const free_areas = of.packed + sequences * kv_heads * attend.packed_floats(of);
    parallel(threads, sequences * kv_heads, Mode::ieee, [&](int64_t i) { attend.pack(of, i / kv_heads, i % kv_heads); });
    parallel(threads, areas, Mode::ieee, [&](int64_t taker) {
        // Late blocks see more positions: dealt out in turn, long ones first.
        for (int64_t i = taker; i < pieces; i += areas) {
            const int64_t block = blocks - 1 - i / (sequences * heads), rest = i % (sequences * heads);
            attend.run(of, rest / heads, rest % heads, block, free_areas + taker * area);
        }
    });
}

}  // namespace

void quantmill::bind_attention(nb::module_ &m) {
    m.def("rope_table", &make_rope_table, nb::arg("dims"), nb::arg("base"), nb::arg("cos"), nb::arg("sin"), nb::kw_only(),
          nb::arg("scale") = 1.0, nb::arg("freq_factors") = nb::none(), nb::arg("ext_factor") = 0.0, nb::arg("attn_factor") = 1.0,
          nb::arg("beta_fast") = 32.0, nb::arg("beta_slow") = 1.0, nb::arg("original_context") = 0, nb::arg("first") = 0);
    m.def("rope", &rope, nb::arg("x"), nb::arg("cos"), nb::arg("sin"), nb::arg("mode"), nb::arg("sequence"), nb::arg("threads"),
          nb::kw_only(), nb::arg("offset") = 0);
    m.def("attention", &attention, nb::arg("q"), nb::arg("k"), nb::arg("v"), nb::arg("out"), nb::arg("scale"), nb::arg("sequence"),
          nb::arg("window") = 0, nb::arg("threads") = 1, nb::kw_only(), nb::arg("chunk") = 0, nb::arg("soft_cap") = 0.f,
          nb::arg("sinks") = nb::none(), nb::arg("slopes") = nb::none());
}
