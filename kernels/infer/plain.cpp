// Weights as they lie in the file times activations: some rows are decoded to bytes, and products run along them.
//
// This is what repacking is compared with. It too decodes a row once for all tokens and holds a tile of rows and tokens in
// registers; but its sums of a group lie across a vector, whose every product is scaled on its own, where panels scale one vector
// for sixteen rows.
#include "infer/level.h"

namespace quantmill::QM_LEVEL {

typedef std::int32_t I8 __attribute__((vector_size(32)));
typedef float V8 __attribute__((vector_size(32)));

#if defined(__AVX512F__)
constexpr int SIDE = 4;  // rows and tokens of a tile
#else
constexpr int SIDE = 2;
#endif

// Some rows, decoded; each has its own place in all of them.
struct Rows {
    std::int64_t groups;
    std::int8_t *values;   // [row][group][32]
    std::int32_t *bias;    // [row][group][8]: minus BIAS times the sums of four values; only where there is a BIAS
    float *scales;         // [row][group][2], of sixteen weights
    float *offsets;        // [row][group][3], to go with the activations' sums
    bool offset;

    Rows(std::uint8_t *buffer, std::int64_t cols, bool with_offset)
        : groups(cols / GROUP), values(reinterpret_cast<std::int8_t *>(buffer)),
          bias(reinterpret_cast<std::int32_t *>(buffer + SIDE * cols)),
          scales(reinterpret_cast<float *>(bias + SIDE * groups * 8)), offsets(scales + SIDE * groups * 2), offset(with_offset) {}
};

static void decode_row(const Form &form, Decode decode, std::int64_t cols, const std::uint8_t *src, const Rows &to, int row) {
    const bool super = form.scale == Scale::super;
    Decoded block = {};
    std::int64_t g = row * to.groups;
    for (std::int64_t j = 0; j < cols; j += form.block, src += form.size) {
        decode(src, block);
        std::memcpy(to.values + g * GROUP, block.value, std::size_t(form.block));
        for (int i = 0; i < form.block; i += GROUP, ++g) {
            const int first = i / form.group, second = (i + 16) / form.group;
            const float d = block.d, dmin = block.dmin;
            to.scales[2 * g] = super ? d * float(block.scale[first]) : d;
            to.scales[2 * g + 1] = super ? d * float(block.scale[second]) : d;
            if (!form.offset) continue;
            to.offsets[3 * g] = super ? dmin * float(block.min[first]) : dmin;
            to.offsets[3 * g + 1] = super ? dmin * float(block.min[second]) : dmin;
            to.offsets[3 * g + 2] = 0;
        }
    }
#if defined(__AVX512VNNI__)
    for (g = row * to.groups; g < (row + 1) * to.groups; ++g) {
        const __m256i minus = _mm256_set1_epi8(char(BIAS)), values = load<__m256i>(to.values + g * GROUP);
        store(to.bias + g * 8, (I8)_mm256_sub_epi32(_mm256_setzero_si256(), _mm256_dpbusd_epi32(_mm256_setzero_si256(), minus, values)));
    }
#endif
}

// The products of one group of a row and a token, summed by fours: with both planes in one vector where one is as long.
template <int PLANES, class = void>
struct Lanes {
    typedef V8 Floats;
    struct Inputs {
        I8 planes[PLANES];
    };
    QM_INLINE Inputs inputs(const std::uint8_t *x) {
        Inputs in;
        for (int plane = 0; plane < PLANES; ++plane) {
            in.planes[plane] = load<I8>(x + plane * GROUP);
            if (BIAS) in.planes[plane] ^= std::int32_t(0x80808080);
        }
        return in;
    }
    QM_INLINE I8 product(I8 sum, I8 x, I8 w) {
#if defined(__AVX512VNNI__)
        return (I8)_mm256_dpbusd_epi32((__m256i)sum, (__m256i)x, (__m256i)w);
#elif defined(__AVX2__)
        return dot(sum, x, w);
#else
        I sums[2], of_x[2], of_w[2];
        std::memcpy(sums, &sum, 32), std::memcpy(of_x, &x, 32), std::memcpy(of_w, &w, 32);
        for (int i = 0; i < 2; ++i) sums[i] = dot(sums[i], of_x[i], of_w[i]);
        std::memcpy(&sum, sums, 32);
        return sum;
#endif
    }
    QM_INLINE Floats products(const Inputs &x, const std::int8_t *values, const std::int32_t *bias) {
        const I8 w = load<I8>(values), start = BIAS ? load<I8>(bias) : I8{};
        I8 sum = product(start, x.planes[0], w);
        if constexpr (PLANES == 2) sum = (sum << 8) + product(start, x.planes[1], w);
        return __builtin_convertvector(sum, V8);
    }
    QM_INLINE Floats scale(float s) { return s - V8{}; }
    QM_INLINE Floats scale(float s, float t) { return V8{s, s, s, s, t, t, t, t}; }
    QM_INLINE Floats of_token(float s) { return s - V8{}; }
    QM_INLINE Floats add(Floats a, Floats b, Floats c) {
#if defined(__AVX2__)
        return (Floats)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
        return a * b + c;
#endif
    }
};

#if defined(__AVX512VNNI__)
template <class Any>
struct Lanes<2, Any> {
    typedef V Floats;
    typedef I Inputs;
    QM_INLINE Inputs inputs(const std::uint8_t *x) { return load<I>(x) ^ std::int32_t(0x80808080); }
    QM_INLINE Floats products(Inputs x, const std::int8_t *values, const std::int32_t *bias) {
        const __m512i w = _mm512_maskz_broadcast_i64x4(__mmask8(-1), load<__m256i>(values));
        const __m512i start = _mm512_maskz_broadcast_i64x4(__mmask8(-1), load<__m256i>(bias));
        return to_float((I)_mm512_dpbusd_epi32(start, (__m512i)x, w));
    }
    QM_INLINE Floats scale(float s) { return splat(s); }
    QM_INLINE Floats scale(float s, float t) { return V{s, s, s, s, t, t, t, t, s, s, s, s, t, t, t, t}; }
    QM_INLINE Floats of_token(float s) {
        return splat(s) * V{256, 256, 256, 256, 256, 256, 256, 256, 1, 1, 1, 1, 1, 1, 1, 1};
    }
    QM_INLINE Floats add(Floats a, Floats b, Floats c) { return fma(a, b, c); }
};
#endif

template <class Floats>
QM_INLINE float total_of(const Floats &v) {
    float sum = 0;
    for (std::size_t i = 0; i < sizeof v / 4; ++i) sum += v[i];
    return sum;
}

// R rows times T tokens from `token` on.
template <int R, int T, int SIZE, int PLANES>
static void tile(const Rows &rows, int row, const Activations &a, std::int64_t token, float (&result)[R][T]) {
    using L = Lanes<PLANES>;
    const std::int64_t groups = rows.groups;
    typename L::Floats total[R][T] = {};
    for (std::int64_t g = 0; g < groups; ++g) {
        QM_UNROLL
        for (int t = 0; t < T; ++t) {
            const std::int64_t at = (token + t) * groups + g;
            const typename L::Inputs x = L::inputs(a.bytes + at * PLANES * GROUP);
            const typename L::Floats scale = L::of_token(a.scales[at]);
            QM_UNROLL
            for (int r = 0; r < R; ++r) {
                const std::int64_t from = (row + r) * groups + g;
                const typename L::Floats products = L::products(x, rows.values + from * GROUP, rows.bias + from * 8) * scale;
                const float *s = rows.scales + from * 2;
                total[r][t] = L::add(products, SIZE == 32 ? L::scale(s[0]) : L::scale(s[0], s[1]), total[r][t]);
            }
        }
    }
    for (int r = 0; r < R; ++r) {
        for (int t = 0; t < T; ++t) result[r][t] = total_of(total[r][t]);
    }
}

static float offsets_of(const Rows &rows, int row, const Activations &a, std::int64_t token) {
    const std::int64_t count = 3 * rows.groups;
    const float *offsets = rows.offsets + row * count, *sums = a.sums + token * count;
    V8 total = {};
    std::int64_t i = 0;
    for (; i + 8 <= count; i += 8) total += load<V8>(offsets + i) * load<V8>(sums + i);
    float sum = total_of(total);
    for (; i < count; ++i) sum += offsets[i] * sums[i];
    return sum;
}

static void put(float v, bool add, float &to) { to = add ? to + v : v; }

template <int R, int T, int SIZE, int PLANES>
QM_INLINE void tile_to(const Rows &rows, int row, const Activations &a, std::int64_t token, float *out, std::int64_t stride,
                       bool add) {
    float result[R][T];
    tile<R, T, SIZE, PLANES>(rows, row, a, token, result);
    for (int t = 0; t < T; ++t) {
        for (int r = 0; r < R; ++r) {
            const float offset = rows.offset ? offsets_of(rows, row + r, a, token + t) : 0;
            put(result[r][t] + offset, add, out[(token + t) * stride + row + r]);
        }
    }
}

template <int R, int SIZE, int PLANES>
static void rows_times(const Rows &rows, int row, const Activations &a, float *out, std::int64_t stride, bool add) {
    std::int64_t t = 0;
    for (; t + SIDE <= a.tokens; t += SIDE) tile_to<R, SIDE, SIZE, PLANES>(rows, row, a, t, out, stride, add);
    for (; t < a.tokens; ++t) tile_to<R, 1, SIZE, PLANES>(rows, row, a, t, out, stride, add);
}

template <int SIZE, int PLANES>
static void some_rows(const Rows &rows, int count, const Activations &a, float *out, std::int64_t stride, bool add) {
    if (count == SIDE) return rows_times<SIDE, SIZE, PLANES>(rows, 0, a, out, stride, add);
    for (int row = 0; row < count; ++row) rows_times<1, SIZE, PLANES>(rows, row, a, out, stride, add);
}

static float row_of_floats(const Form &form, std::int64_t cols, const std::uint8_t *row, const float *x) {
    V total = {};
    std::int64_t k = 0;
    for (; k + W <= cols; k += W) {
        const std::uint8_t *at = row + k * form.size;
        total = fma(form.bits == 32 ? load<V>(at) : form.type[0] == 'B' ? from_brains(at) : from_halves(at), load<V>(x + k), total);
    }
    return total_of(total);
}

static void floats_plain(const Weights &w, const Activations &a, float *out, std::int64_t stride, bool add, std::int64_t first,
                         std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) {
        const std::uint8_t *src = w.data + r * row_bytes(*w.form, w.cols);
        for (std::int64_t t = 0; t < a.tokens; ++t) {
            put(row_of_floats(*w.form, w.cols, src, a.floats + t * w.cols), add, out[t * stride + r]);
        }
    }
}

void multiply_plain(const Weights &w, const Activations &a, float *out, std::int64_t stride, bool add, std::int64_t first,
                    std::int64_t last, std::uint8_t *buffer) {
    const Form &form = *w.form;
    first *= ROWS, last = last * ROWS < w.rows ? last * ROWS : w.rows;
    if (form.scale == Scale::none) return floats_plain(w, a, out, stride, add, first, last);
    const Rows rows(buffer, w.cols, form.offset);
    const Decode decode = decoder(form);
    for (std::int64_t r = first; r < last; r += SIDE) {
        const int count = int(last - r < SIDE ? last - r : SIDE);
        for (int i = 0; i < count; ++i) decode_row(form, decode, w.cols, w.data + (r + i) * row_bytes(form, w.cols), rows, i);
        if (form.group == 16 && a.planes == 2) some_rows<16, 2>(rows, count, a, out + r, stride, add);
        else if (form.group == 16) some_rows<16, 1>(rows, count, a, out + r, stride, add);
        else if (a.planes == 2) some_rows<32, 2>(rows, count, a, out + r, stride, add);
        else some_rows<32, 1>(rows, count, a, out + r, stride, add);
    }
}

}  // namespace quantmill::QM_LEVEL
