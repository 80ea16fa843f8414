// A mixture of experts: a router chooses some for each token, and their weighted results are added up.
//
// The pairs of a token and an expert stand in slots, those of one expert side by side and beginning at a tile of their own, so
// that an expert multiplies all its tokens at once. Whatever the router says decides only which slots there are.
#include <algorithm>
#include <cmath>

#include "infer/model.h"

namespace quantmill::infer {

Experts::Experts(const Config &c, std::int64_t batch, int planes, bool floats)
    : pairs(batch * c.experts_used),
      slots(pairs + c.experts * (MOST_TOKENS - 1)),
      room(slots, std::max(c.width, c.expert_hidden), planes, floats),
      logits(std::size_t(batch * c.experts * 4)),
      scores(std::size_t(3 * batch * c.experts * 4)),
      gate(std::size_t(slots * c.expert_hidden * 4)),
      up(std::size_t(slots * c.expert_hidden * 4)),
      out(std::size_t(slots * c.width * 4)),
      chosen(std::size_t(pairs)),
      shares(std::size_t(pairs)),
      slot(std::size_t(pairs)),
      pair(std::size_t(slots)),
      groups(std::size_t(c.experts)) {
    tiles.reserve(std::size_t(pairs));
}

// Gives every pair its slot. Experts with tokens come first, so that as many groups as there are pairs are enough to look at.
void Experts::arrange(const Config &c, std::int64_t n, std::int64_t tile) {
    for (std::size_t e = 0; e < groups.size(); ++e) groups[e] = {std::int64_t(e), 0, 0};
    for (std::int64_t i = 0; i < n * c.experts_used; ++i) ++groups[std::size_t(chosen[std::size_t(i)])].tokens;
    std::int64_t next = 0;
    tiles.clear();
    for (Group &group : groups) {
        group.first = next;
        for (std::int64_t done = 0; done < group.tokens; done += tile, next += tile) {
            tiles.push_back({next, std::min(tile, group.tokens - done)});
        }
        group.tokens = 0;
    }
    for (std::int64_t i = 0; i < n * c.experts_used; ++i) {
        Group &group = groups[std::size_t(chosen[std::size_t(i)])];
        slot[std::size_t(i)] = group.first + group.tokens++;
        pair[std::size_t(slot[std::size_t(i)])] = i;
    }
    std::stable_partition(groups.begin(), groups.end(), [](const Group &group) { return group.tokens > 0; });
}

// Some tiles of activations as activations of their own.
static Activations part_of(const Activations &a, std::int64_t tile, std::int64_t tokens) {
    Activations part = a;
    const std::int64_t group = tile * a.groups();
    part.tokens = tokens;
    part.bytes += group * a.planes * GROUP * a.tile;
    part.scales += group * a.tile, part.sums += 3 * group * a.tile, part.counts += 3 * group;
    part.floats += tile * a.tile * a.cols;
    return part;
}

static Matrix expert_of(const Matrix &all, std::int64_t experts, std::int64_t expert) {
    Matrix one;
    Weights &w = one.weights = all.weights;
    w.rows /= experts;
    const std::int64_t bytes = w.repacked ? w.panels() * panel_bytes(*w.form, w.cols) : w.rows * row_bytes(*w.form, w.cols);
    w.data += expert * bytes;
    return one;
}

// Adds the rows of an expert's bias, where there is one.
static void add_bias(const Vector &bias, std::int64_t from, std::int64_t count, float *to) {
    for (std::int64_t i = 0; i < count && !bias.empty(); ++i) to[i] += bias[std::size_t(from + i)];
}

// Adds what the expert that all tokens take made of one, by its own gate where it has one.
void Model::add_shared(std::int64_t token, const float *normed, const Layer &layer, float *sum) const {
    const std::int64_t width = config.width;
    const float *row = after_.as<float>() + token * width;
    float share = 1;
    if (!layer.shared_router.empty()) {
        float logit = 0;
        for (std::int64_t i = 0; i < width; ++i) logit += normed[i] * layer.shared_router[std::size_t(i)];
        share = 1.f / (1.f + std::exp(-logit));
    }
    for (std::int64_t i = 0; i < width; ++i) sum[i] += share * row[i];
}

void Model::feed_experts(int thread, const Layer &layer, const Source &from, std::int64_t n) {
    const Config &c = config;
    Experts &x = *experts_;
    const std::int64_t used = c.experts_used, width = c.width, hidden = c.expert_hidden, T = n == 1 || !repack ? 1 : kernels.tokens;
    // How many there are at most: a thread that is late must not ask what the router has said since.
    const std::int64_t groups = std::min(c.experts, n * used), tiles = n * used / T + (T == 1 ? 0 : groups);
    float *logits = x.logits.as<float>(), *out = x.out.as<float>();
    float *gate = x.gate.as<float>(), *up = x.up.as<float>();
    const bool shared = layer.shared_up.given();
    if (shared) {
        feed(thread, {layer.shared_gate, layer.shared_up, nullptr, nullptr, c.shared_hidden}, from, n);
        product(thread, {{&layer.shared_down, after_.as<float>(), width}}, {gate_.as<float>(), nullptr}, n, false);
    }
    const auto normed = [this, width, &from](std::int64_t t, float *to) {
        const float *row = from.x + t * width;
        if (from.norm && !from.norm->empty()) norm(row, *from.norm, to);
        else std::copy(row, row + width, to);
    };
    product(thread, {{&layer.router, logits, c.experts}}, from, n, false);
    pool.share(thread, n, [&](std::int64_t t) {
        float *own = logits + t * c.experts;
        add_bias(layer.router_bias, 0, c.experts, own);
        choose(c.routing, own, layer.choice_bias.empty() ? nullptr : layer.choice_bias.data(), c.experts, used,
               &x.chosen[std::size_t(t * used)], &x.shares[std::size_t(t * used)], x.scores.as<float>() + 3 * t * c.experts);
    });
    pool.share(thread, 1, [&](std::int64_t) { x.arrange(c, n, T); });

    const auto made = [&](std::int64_t cols) {
        return Inputs{x.room.of(x.slots, cols, T, planes_), x.room.of(x.slots, cols, T, 0), true, true, true};
    };
    const Inputs wide = made(width), narrow = made(hidden);
    const auto part = [](const Inputs &all, std::int64_t tile, std::int64_t tokens) {
        return Inputs{part_of(all.integers, tile, tokens), part_of(all.floats, tile, tokens), true, true, true};
    };
    const auto quantize = [&](const float *from, const Inputs &to, std::initializer_list<const Matrix *> matrices) {
        bool floats = false, integers = false;
        for (const Matrix *m : matrices) (m->weights.form->scale == Scale::none ? floats : integers) = true;
        if (integers) kernels.quantize(from, to.integers.cols, to.integers, 0, 1);
        if (floats) kernels.quantize(from, to.floats.cols, to.floats, 0, 1);
    };
    // Calls work(group, first, last) for panels of an expert with `panels`.
    const auto multiplied = [&](std::int64_t panels, auto work) {
        const std::int64_t some = std::max<std::int64_t>(1, std::min<std::int64_t>(32, panels * used / (4 * pool.threads())));
        const std::int64_t size = n == 1 ? some : 2, chunks = (panels + size - 1) / size;
        pool.share(thread, groups * chunks, [&](std::int64_t i) {
            const Experts::Group &group = x.groups[std::size_t(i / chunks)];
            const std::int64_t first = i % chunks * size;
            if (group.tokens > 0) work(group, first, std::min(panels, first + size));
        });
    };

    // One token's experts all take the same activations, unless their shares multiply them.
    const bool same = n == 1 && !c.shares_before;
    pool.share(thread, same ? 1 : tiles, [&](std::int64_t i) {
        if (i >= std::int64_t(x.tiles.size())) return;
        const auto [at, tokens] = x.tiles[std::size_t(i)];
        for (std::int64_t s = at; s < at + tokens; ++s) {
            const std::int64_t pair = x.pair[std::size_t(s)];
            normed(pair / used, out + s * width);
            for (std::int64_t j = 0; j < width && c.shares_before; ++j) out[s * width + j] *= x.shares[std::size_t(pair)];
        }
        quantize(out + at * width, part(wide, at / T, tokens), {c.gated ? &layer.gates : &layer.ups, &layer.ups});
    });
    multiplied(hidden / ROWS, [&](const Experts::Group &group, std::int64_t first, std::int64_t last) {
        const Inputs inputs = part(wide, same ? 0 : group.first / T, group.tokens);
        float *to[2] = {gate + group.first * hidden, up + group.first * hidden};
        const Matrix *all[2] = {&layer.gates, &layer.ups};
        for (int i = c.gated ? 0 : 1; i < 2; ++i) {
            const Matrix own = expert_of(*all[i], c.experts, group.expert);
            multiply(thread, {&own, to[i], hidden}, inputs, false, first, last);
        }
        const std::int64_t row = first * ROWS, count = last * ROWS - row;
        for (std::int64_t t = 0; t < group.tokens; ++t) {
            const std::int64_t at = t * hidden + row;
            if (c.gated) add_bias(layer.gates_bias, group.expert * hidden + row, count, to[0] + at);
            add_bias(layer.ups_bias, group.expert * hidden + row, count, to[1] + at);
            if (c.gated) kernels.gate(to[0] + at, to[1] + at, to[0] + at, count, c.gate);
            else kernels.gate(to[1] + at, nullptr, to[0] + at, count, c.gate);
        }
    });
    pool.share(thread, tiles, [&](std::int64_t i) {
        if (i >= std::int64_t(x.tiles.size())) return;
        const auto [at, tokens] = x.tiles[std::size_t(i)];
        quantize(gate + at * hidden, part(narrow, at / T, tokens), {&layer.downs});
    });
    multiplied(width / ROWS, [&](const Experts::Group &group, std::int64_t first, std::int64_t last) {
        const Matrix own = expert_of(layer.downs, c.experts, group.expert);
        const Inputs inputs = part(narrow, group.first / T, group.tokens);
        multiply(thread, {&own, out + group.first * width, width}, inputs, false, first, last);
    });
    pool.share(thread, n, [&](std::int64_t t) {
        float *sum = out + x.slot[std::size_t(t * used)] * width;
        for (std::int64_t j = t * used; j < (t + 1) * used; ++j) {
            add_bias(layer.downs_bias, x.chosen[std::size_t(j)] * width, width, out + x.slot[std::size_t(j)] * width);
        }
        const auto share_of = [&](std::int64_t j) { return c.shares_before ? 1.f : x.shares[std::size_t(j)]; };
        const float first_share = share_of(t * used);
        for (std::int64_t i = 0; i < width; ++i) sum[i] *= first_share;
        for (std::int64_t j = t * used + 1; j < (t + 1) * used; ++j) {
            const float *row = out + x.slot[std::size_t(j)] * width, share = share_of(j);
            for (std::int64_t i = 0; i < width; ++i) sum[i] += share * row[i];
        }
        if (shared) {
            float *row = normed_.as<float>() + t * width;
            normed(t, row);
            add_shared(t, row, layer, sum);
        }
        settle(sum, t, {}, layer.after_feed);
    });
}

}  // namespace quantmill::infer
