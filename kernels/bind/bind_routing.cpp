// The choice of a mixture's experts as a Python function.
#include <nanobind/stl/string.h>

#include <cmath>

#include "bind/bind_forward.h"
#include "common/memory.h"
#include "common/pool.h"

using namespace quantmill;

namespace {

using std::int64_t;

enum class Scoring { softmax, sigmoid, sqrt_softplus, softmax_chosen, sigmoid_chosen };
constexpr const char *SCORINGS[] = {"softmax", "sigmoid", "sqrt_softplus", "softmax_chosen", "sigmoid_chosen"};

Scoring scoring_named(const std::string &name) {
    std::string names;
    int i = 0;
    for (const char *known : SCORINGS) {
        if (name == known) return Scoring(i);
        names += (i++ ? ", " : "") + std::string(known);
    }
    fail("scoring must be one of " + names + ", not \"" + name + "\"");
}

constexpr float GONE = -__builtin_inff();

// The index of the largest that is not taken, the first of equals; a NaN is never the largest, so the first one left stands for it.
// What is taken is minus infinity in `row`.
int64_t take(float *row, int64_t n, char *taken) {
    int64_t best = 0;
    while (taken[best]) ++best;
    for (int64_t e = best + 1; e < n; ++e) best = row[e] > row[best] ? e : best;
    taken[best] = true;
    row[best] = GONE;
    return best;
}

struct Router {
    Scoring scoring;
    const float *bias;  // or null
    int64_t experts, chosen, groups, groups_chosen;
    bool normalize;
    float scale;

    // Leaves a choice only to the groups whose two best have the largest sums. There is room for a sum and a mark of each group.
    void limit(float *row, float *sums, char *taken) const {
        const int64_t size = experts / groups;
        std::fill(taken, taken + groups, 0);
        for (int64_t g = 0; g < groups; ++g) {
            float best = GONE, second = GONE;
            for (const float *at = row + g * size; at < row + (g + 1) * size; ++at) {
                second = *at > best ? best : *at > second ? *at : second;
                best = *at > best ? *at : best;
            }
            sums[g] = best + second;
        }
        for (int64_t i = 0; i < groups_chosen; ++i) take(sums, groups, taken);
        for (int64_t g = 0; g < groups; ++g) {
            if (!taken[g]) std::fill(row + g * size, row + (g + 1) * size, GONE);
        }
    }

    int64_t scratch_floats() const { return 4 * experts; }

    void run(const float *logits, std::int32_t *ids, float *weights, float *scratch) const {
        const Forward &kernels = forward();
        float *p = scratch, *choice = p + experts, *sums = choice + experts;
        char *taken = reinterpret_cast<char *>(sums + experts);
        std::copy(logits, logits + experts, p);
        if (scoring == Scoring::softmax) kernels.rows->softmax(p, 1, experts);
        if (scoring == Scoring::sigmoid) kernels.gates->activate(Activation::sigmoid, p, p, experts);
        if (scoring == Scoring::sqrt_softplus) {
            kernels.gates->activate(Activation::softplus, p, p, experts);
            for (int64_t e = 0; e < experts; ++e) p[e] = std::sqrt(p[e]);
        }
        std::copy(p, p + experts, choice);
        if (bias) kernels.rows->add(p, bias, choice, experts);
        if (groups > 1) limit(choice, sums, taken);
        std::fill(taken, taken + experts, 0);
        for (int64_t j = 0; j < chosen; ++j) {
            const int64_t best = take(choice, experts, taken);
            ids[j] = std::int32_t(best);
            weights[j] = p[best];
        }
        if (scoring == Scoring::softmax_chosen && chosen) kernels.rows->softmax(weights, 1, chosen);
        if (scoring == Scoring::sigmoid_chosen) kernels.gates->activate(Activation::sigmoid, weights, weights, chosen);
        if (normalize) {
            float sum = 0;
            for (int64_t j = 0; j < chosen; ++j) sum += weights[j];
            if (sum < LEAST_SUM) sum = LEAST_SUM;
            for (int64_t j = 0; j < chosen; ++j) weights[j] /= sum;
        }
        if (scale != 1) kernels.rows->scale(weights, scale, chosen);
    }

    static constexpr float LEAST_SUM = 6.103515625e-5f;  // fp16's smallest normal number, as build_moe_ffn has it
};

void top_k(nb::handle logits_, nb::handle ids_, nb::handle weights_, bool normalize, int threads, const std::string &scoring,
           nb::handle bias_, int64_t groups, int64_t groups_chosen, float scale) {
    const Floats logits(logits_, "logits", {-1, -1});
    const int64_t m = logits.size(0), n = logits.size(1);
    const Integers ids(ids_, "ids", {m, -1}, true);
    const int64_t k = ids.size(1);
    const Floats weights(weights_, "weights", {m, k}, true);
    const OptionalFloats bias(bias_, "bias", {n});
    if (k > n) fail("ids must have at most " + std::to_string(n) + " columns, one an expert, not " + std::to_string(k));
    if (groups < 1 || n % groups || (groups > 1 && n / groups < 2)) {
        fail("groups must be 1, or divide the " + std::to_string(n) + " experts by at least two, not " + std::to_string(groups));
    }
    if (groups_chosen < 1 || groups_chosen > groups) {
        fail("groups_chosen must be 1 to " + std::to_string(groups) + ", not " + std::to_string(groups_chosen));
    }
    separate(ids, "ids", logits, "logits");
    separate(weights, "weights", logits, "logits");
    separate(weights, "weights", ids, "ids");
    bias.apart(ids, "ids");
    bias.apart(weights, "weights");
    checked_threads(threads);
    const Router router = {scoring_named(scoring), bias.in(), n, k, groups, groups_chosen, normalize, scale};
    if (m == 0 || n == 0) return;
    nb::gil_scoped_release release;
    // Scratch is had before the threads begin, which may not throw.
    const int64_t areas = std::min<int64_t>(threads, (m - 1) / least_rows(n) + 1);
    Memory all(areas * router.scratch_floats() * 4);
    parallel(threads, areas, Mode::ieee, [&](int64_t area) {
        float *scratch = reinterpret_cast<float *>(all.data()) + area * router.scratch_floats();
        for (int64_t i = m * area / areas; i < m * (area + 1) / areas; ++i) {
            router.run(logits.in() + i * n, ids.data<std::int32_t>() + i * k, weights.out() + i * k, scratch);
        }
    });
}

}  // namespace

void quantmill::bind_routing(nb::module_ &m) {
    m.def("top_k", &top_k, nb::arg("logits"), nb::arg("ids"), nb::arg("weights"), nb::arg("normalize"), nb::arg("threads"),
          nb::kw_only(), nb::arg("scoring") = "softmax", nb::arg("bias") = nb::none(), nb::arg("groups") = 1,
          nb::arg("groups_chosen") = 1, nb::arg("scale") = 1.f);
}
