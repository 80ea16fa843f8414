// Attention to compressed keys and values: each head's matrices of these are applied to queries and results instead.
#include <algorithm>

#include "infer/model.h"

namespace quantmill::infer {

// Each head's columns by a matrix of its own; tokens are `stride` apart, heads `step`.
void Model::by_head(int thread, const std::vector<Matrix> &matrices, const float *x, std::int64_t stride, std::int64_t step,
                    float *out, std::int64_t out_stride, std::int64_t out_step, std::int64_t n) {
    const std::int64_t heads = std::int64_t(matrices.size()), parts = (n + OF_HEAD - 1) / OF_HEAD;
    const std::int64_t tile = n == 1 || !repack ? 1 : kernels.tokens;
    pool.share(thread, heads * parts, [&](std::int64_t i) {
        const std::int64_t head = i % heads, first = i / heads * OF_HEAD, count = std::min(OF_HEAD, n - first);
        const Matrix &matrix = matrices[std::size_t(head)];
        const Room &room = threads_[std::size_t(thread)].of_head;
        const bool floats = matrix.weights.form->scale == Scale::none;
        const Activations a = room.of(count, matrix.weights.cols, tile, floats ? 0 : planes_);
        kernels.quantize(x + first * stride + head * step, stride, a, 0, a.tiles());
        multiply(thread, {&matrix, out + first * out_stride + head * out_step, out_stride}, {a, a, !floats, floats, true}, false, 0,
                 matrix.weights.panels());
    });
}

// Turns what turns of each head's query and of the key, which goes to the cache with the normed value that is also its other part.
void Model::place_compressed(int thread, Layer &layer, std::int64_t n, std::int64_t position) {
    const std::int64_t rank = config.compressed.rank, key = config.compressed.key, half = config.rotated / 2, heads = config.heads;
    const std::int64_t still = key - config.rotated, dims = config.head_dim;
    pool.share(thread, n * (heads + 1), [&](std::int64_t unit) {
        const std::int64_t t = unit / (heads + 1), head = unit % (heads + 1), at = position + t;
        float *row = head < heads ? queries_.as<float>() + (t * heads + head) * key + still : k_.as<float>() + t * dims + rank;
        if (layer.kind.turns) kernels.rotate(row, cosines.data() + at * half, sines.data() + at * half, half, false);
        if (head < heads) {
            std::copy(row, row + config.rotated, q_.as<float>() + (t * heads + head) * dims + rank);
            return;
        }
        row -= rank;
        kernels.norm(row, layer.kv_a_norm.data(), config.eps, rank, row);
        kernels.store_key(row, dims, layer.keys.as<std::uint16_t>(), at);
        kernels.store_value(row, rank, layer.values.as<std::uint16_t>(), at);
    }, n == 1 ? 4 : heads + 1);
}

void Model::attend_compressed(int thread, int index, const Source &from, std::int64_t n, std::int64_t position) {
    Layer &layer = layers_[std::size_t(index)];
    const Compressed &z = config.compressed;
    const std::int64_t heads = config.heads, dims = config.head_dim;
    float *queries = queries_.as<float>(), *low = low_.as<float>(), *q = q_.as<float>();
    const Use kv = {&layer.kv_a, k_.as<float>(), dims};
    if (z.query_rank) {
        product(thread, {{&layer.q_a, low, z.query_rank}, kv}, from, n, false);
        product(thread, {{&layer.q_b, queries, heads * z.key}}, {low, &layer.q_a_norm}, n, false);
    } else {
        product(thread, {{&layer.q, queries, heads * z.key}, kv}, from, n, false);
    }
    place_compressed(thread, layer, n, position);
    by_head(thread, layer.k_b, queries, heads * z.key, z.key, q, heads * dims, dims, n);
    attend(thread, index, n, position);
    by_head(thread, layer.v_b, mixed_.as<float>(), heads * z.rank, z.rank, values_.as<float>(), heads * z.values, z.values, n);
}

}  // namespace quantmill::infer
