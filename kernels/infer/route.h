// Which experts a token takes, by what a router says of it.
#pragma once

#include <cstdint>

namespace quantmill::infer {

struct Routing {
    // What becomes of the router's logits: a softmax of all or a sigmoid, before the choice; or of those chosen, behind it.
    enum Scoring { softmax, sigmoid, softmax_chosen, sigmoid_chosen } scoring;
    bool normed;  // shares are divided by their sum
    float scale;  // of the shares
    std::int64_t groups, groups_used;  // only the best groups of experts have a choice left to them
};

// The experts of the largest scores, with `bias` added where it is not null, descending, of equals the first; a NaN is never the
// largest. `scratch`: 3 floats an expert.
void choose(const Routing &how, const float *logits, const float *bias, std::int64_t experts, std::int64_t used,
            std::int32_t *chosen, float *shares, float *scratch);

}  // namespace quantmill::infer
