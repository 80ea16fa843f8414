// Q8_0: 32 weights as one fp16 scale and 32 signed bytes.
#include "common/simd.h"

namespace quantmill::QM_LEVEL {

constexpr int BLOCK = 32, SIZE = 34;

#if defined(__clang__)
#define QM_SHUFFLE_BYTES(v, ...) __builtin_shufflevector(v, v, __VA_ARGS__)
#else
#define QM_SHUFFLE_BYTES(v, ...) __builtin_shuffle(v, Bytes{__VA_ARGS__})
#endif

// The low bytes of 32 integers, in order: BLOCK / W vectors of them.
QM_INLINE void put_bytes(const I *q, std::uint8_t *dst) {
#if defined(__AVX512F__)
    typedef std::int8_t Bytes __attribute__((vector_size(W)));
    for (int j = 0; j < BLOCK / W; ++j) {
        const Bytes bytes = __builtin_convertvector(q[j], Bytes);
        std::memcpy(dst + j * W, &bytes, sizeof bytes);
    }
#else
    // Four vectors share one vector of words, whose bytes then lie four apart.
    typedef std::int8_t Bytes __attribute__((vector_size(4 * W)));
    for (int j = 0; j < BLOCK / W; j += 4) {
        const Bytes words = (Bytes)((q[j] & 0xff) | (q[j + 1] & 0xff) << 8 | (q[j + 2] & 0xff) << 16 | q[j + 3] << 24);
#if defined(__AVX2__)
        const Bytes bytes = QM_SHUFFLE_BYTES(words, 0, 4, 8, 12, 16, 20, 24, 28, 1, 5, 9, 13, 17, 21, 25, 29,  //
                                             2, 6, 10, 14, 18, 22, 26, 30, 3, 7, 11, 15, 19, 23, 27, 31);
#else
        const Bytes bytes = QM_SHUFFLE_BYTES(words, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
#endif
        std::memcpy(dst + j * W, &bytes, sizeof bytes);
    }
#endif
}

// A largest magnitude has no order to keep, and every weight is scaled alone. So only the W largest lie side by side, for
// the division and the fp16; the weights stay in their rows, which no transpose has to undo.
// An importance vector changes nothing in this type.
static void quantize_q8_0(const float *src, std::uint8_t *dst, std::int64_t rows, std::int64_t cols, const float *, Changes) {
    for_batches<BLOCK, SIZE>(src, dst, rows, cols, nullptr, [](const Batch &batch) {
        I tile[W];
        QM_UNROLL
        for (int i = 0; i < W; ++i) {
            fetch_ahead(batch.src[i]);
            fetch_ahead(batch.src[i] + BLOCK / 2);
            V most = {};
            for (int j = 0; j < BLOCK; j += W) {
                V x;
                std::memcpy(&x, batch.src[i] + j, sizeof x);
                most = greater(most, absolute(x));
            }
            tile[i] = bits(most);
        }
        transpose(tile);
        V largest = from_bits(tile[0]);
        for (int i = 1; i < W; ++i) largest = greater(largest, from_bits(tile[i]));
        const V d = largest / 127.f;
        const V inverse = select(d == 0.f, V{}, 1.f / d);
        store_half(batch, 0, to_half(d));
        for (int i = 0; i < batch.valid; ++i) {
            const V scale = splat(inverse[i]);
            I q[BLOCK / W];
            QM_UNROLL
            for (int j = 0; j < BLOCK / W; ++j) {
                V x;
                std::memcpy(&x, batch.src[i] + j * W, sizeof x);
                q[j] = round_away(x * scale);
            }
            put_bytes(q, batch.dst[i] + 2);
        }
    });
}

static void dequantize_q8_0(const std::uint8_t *__restrict src, float *__restrict dst, std::int64_t count) {
    for (; count > 0; count -= BLOCK, src += SIZE, dst += BLOCK) {
        const float d = half_value(src);
        for (int j = 0; j < BLOCK; ++j) dst[j] = float(std::int8_t(src[2 + j])) * d;
    }
}

QM_FAMILY(q8_0, {"Q8_0", BLOCK, SIZE, quantize_q8_0, dequantize_q8_0, false})

}  // namespace quantmill::QM_LEVEL
