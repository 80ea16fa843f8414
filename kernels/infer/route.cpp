// Which experts a token takes, by what a router says of it.
#include "infer/route.h"

#include <algorithm>
#include <cmath>

namespace quantmill::infer {

constexpr float LEAST_SUM = 6.103515625e-5f;  // fp16's smallest normal number, as llama.cpp has it
constexpr float GONE = -__builtin_inff();

static float sigmoid_of(float x) { return 1.f / (1.f + std::exp(-x)); }

static void softmax_of(float *x, std::int64_t n) {
    const float most = *std::max_element(x, x + n);
    float sum = 0;
    for (std::int64_t i = 0; i < n; ++i) sum += x[i] = std::exp(x[i] - most);
    for (std::int64_t i = 0; i < n; ++i) x[i] /= sum;
}

// The `used` largest of `n`, descending, of equals the first.
static void largest(const float *x, std::int64_t n, std::int64_t used, std::int32_t *chosen) {
    for (std::int64_t j = 0; j < used; ++j) {
        std::int64_t best = -1;
        for (std::int64_t e = 0; e < n; ++e) {
            if (std::find(chosen, chosen + j, std::int32_t(e)) != chosen + j) continue;
            if (best < 0 || x[e] > x[best]) best = e;
        }
        chosen[j] = std::int32_t(best);
    }
}

// Leaves a choice only to the groups whose two best have the largest sums; `sums` has room for two numbers a group.
static void leave(const Routing &how, float *x, std::int64_t experts, float *sums) {
    const std::int64_t size = experts / how.groups;
    for (std::int64_t g = 0; g < how.groups; ++g) {
        float best = GONE, second = GONE;
        for (const float *at = x + g * size; at < x + (g + 1) * size; ++at) {
            second = *at > best ? best : *at > second ? *at : second;
            best = *at > best ? *at : best;
        }
        sums[g] = best + second;
    }
    auto *kept = reinterpret_cast<std::int32_t *>(sums + how.groups);
    largest(sums, how.groups, how.groups_used, kept);
    for (std::int64_t g = 0; g < how.groups; ++g) {
        if (std::find(kept, kept + how.groups_used, std::int32_t(g)) != kept + how.groups_used) continue;
        std::fill(x + g * size, x + (g + 1) * size, GONE);
    }
}

void choose(const Routing &how, const float *logits, const float *bias, std::int64_t experts, std::int64_t used,
            std::int32_t *chosen, float *shares, float *scratch) {
    // A softmax of all, divided by the sum of those chosen, is the softmax of those alone.
    const bool plain = how.scoring == Routing::softmax && how.normed && !bias && how.groups < 2;
    const bool alone = plain || how.scoring == Routing::softmax_chosen;
    float *scores = scratch, *choice = scratch + experts;
    const float *from = logits;
    if (how.scoring == Routing::sigmoid || (how.scoring == Routing::softmax && !alone)) {
        std::copy(logits, logits + experts, scores);
        if (how.scoring == Routing::softmax) softmax_of(scores, experts);
        else std::transform(scores, scores + experts, scores, sigmoid_of);
        from = scores;
    }
    const float *by = from;
    if (bias || how.groups > 1) {
        for (std::int64_t e = 0; e < experts; ++e) choice[e] = from[e] + (bias ? bias[e] : 0.f);
        if (how.groups > 1) leave(how, choice, experts, choice + experts);
        by = choice;
    }
    largest(by, experts, used, chosen);
    float sum = 0;
    for (std::int64_t j = 0; j < used; ++j) {
        float share = from[chosen[j]];
        if (alone) share = std::exp(share - logits[chosen[0]]);
        else if (how.scoring == Routing::sigmoid_chosen) share = sigmoid_of(share);
        sum += shares[j] = share;
    }
    if (how.normed && !alone) sum = std::max(sum, LEAST_SUM);
    if (how.normed || alone) {
        for (std::int64_t j = 0; j < used; ++j) shares[j] /= sum;
    }
    if (how.scale != 1) {
        for (std::int64_t j = 0; j < used; ++j) shares[j] *= how.scale;
    }
}

}  // namespace quantmill::infer
