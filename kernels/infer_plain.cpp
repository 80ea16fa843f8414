// Weights as they lie in the file times activations: each row is decoded to bytes, and a product runs along it.
//
// This is what repacking is compared with: the products of a row's groups end in sums across a vector's lanes.
#include "infer_level.h"

namespace quantmill::QM_LEVEL {

typedef std::int32_t I8 __attribute__((vector_size(32)));
typedef float V8 __attribute__((vector_size(32)));

// sum += products of four bytes, eight times; w is biased by BIAS.
QM_INLINE void dot_8(I8 &sum, const std::int8_t *w, const std::uint8_t *x) {
#if defined(__AVX512VNNI__)
    sum = (I8)_mm256_dpbusd_epi32((__m256i)sum, (__m256i)load<I8>(w), (__m256i)load<I8>(x));
#elif defined(__AVX2__)
    sum += (I8)dot(I{}, load<I>(x), load<I>(w));
#else
    I halves[2];
    std::memcpy(halves, &sum, sizeof sum);
    for (int i = 0; i < 2; ++i) halves[i] = dot(halves[i], load<I>(x + 16 * i), load<I>(w + 16 * i));
    std::memcpy(&sum, halves, sizeof sum);
#endif
}

QM_INLINE float total_of(const V8 &v) {
    float sum = 0;
    for (int i = 0; i < 8; ++i) sum += v[i];
    return sum;
}

// A row: for each group of 32, its values and two scales and offsets.
struct Row {
    std::int8_t *values;
    float *scales, *offsets;
};

static void decode_row(const Form &form, Decode decode, std::int64_t cols, const std::uint8_t *src, const Row &to) {
    Decoded block = {};
    for (std::int64_t j = 0; j < cols; j += form.block, src += form.size) {
        decode(src, block);
        for (int i = 0; i < form.block; ++i) to.values[j + i] = std::int8_t(block.value[i] ^ BIAS);
        for (int half = 0; half < form.block / 16; ++half) {
            const int part = half * 16 / form.group;
            const bool super = form.scale == Scale::super;
            to.scales[j / 16 + half] = super ? block.d * float(block.scale[part]) : block.d;
            if (form.offset) to.offsets[j / 16 + half] = super ? block.dmin * float(block.min[part]) : block.dmin;
        }
    }
}

static float row_times_one(const Form &form, std::int64_t groups, const Row &row, const Activations &a, std::int64_t token) {
    const std::int64_t at = token * groups;
    const std::uint8_t *x = a.bytes + at * a.planes * GROUP;
    V8 total = {};
    float offsets = 0;
    for (std::int64_t g = 0; g < groups; ++g, x += a.planes * GROUP) {
        const std::int32_t *counts = a.counts + 3 * (at + g);
        I8 low = {-BIAS * counts[0], 0, 0, 0, -BIAS * counts[1], 0, 0, 0};
        if (a.planes == 2) {
            I8 high = {};
            dot_8(high, row.values + g * GROUP, x);
            low += high << 8;
            dot_8(low, row.values + g * GROUP, x + GROUP);
        } else {
            dot_8(low, row.values + g * GROUP, x);
        }
        const float s = row.scales[2 * g] * a.scales[at + g], t = row.scales[2 * g + 1] * a.scales[at + g];
        total += __builtin_convertvector(low, V8) * V8{s, s, s, s, t, t, t, t};
        if (form.offset) {
            const float *sums = a.sums + 3 * (at + g);
            offsets += row.offsets[2 * g] * sums[0] + row.offsets[2 * g + 1] * sums[1];
        }
    }
    return total_of(total) + offsets;
}

static float row_of_floats(const Form &form, std::int64_t cols, const std::uint8_t *row, const float *x) {
    V total = {};
    std::int64_t k = 0;
    for (; k + W <= cols; k += W) {
        const std::uint8_t *at = row + k * form.size;
        total = fma(form.bits == 32 ? load<V>(at) : form.type[0] == 'B' ? from_brains(at) : from_halves(at), load<V>(x + k), total);
    }
    float sum = 0;
    for (int i = 0; i < W; ++i) sum += total[i];
    return sum;
}

void multiply_plain(const Weights &w, const Activations &a, float *out, std::int64_t stride, bool add, std::int64_t first,
                    std::int64_t last, std::uint8_t *buffer) {
    const Form &form = *w.form;
    const bool floats = form.scale == Scale::none;
    Row row;
    row.values = reinterpret_cast<std::int8_t *>(buffer);
    row.scales = reinterpret_cast<float *>(buffer + w.cols);
    row.offsets = row.scales + w.cols / 16;
    const Decode decode = floats ? nullptr : decoder(form);
    for (std::int64_t r = first * ROWS; r < last * ROWS && r < w.rows; ++r) {
        const std::uint8_t *src = w.data + r * row_bytes(form, w.cols);
        if (!floats) decode_row(form, decode, w.cols, src, row);
        for (std::int64_t t = 0; t < a.tokens; ++t) {
            const float v = floats ? row_of_floats(form, w.cols, src, a.floats + t * w.cols)
                                   : row_times_one(form, w.cols / GROUP, row, a, t);
            float &to = out[t * stride + r];
            to = add ? to + v : v;
        }
    }
}

}  // namespace quantmill::QM_LEVEL
