// What the files of one level's inference kernels have of each other.
#pragma once

#include "infer/vectors.h"

namespace quantmill::QM_LEVEL {

// Expands one block into its integers.
using Decode = void (*)(const std::uint8_t *block, Decoded &);
Decode decoder(const Form &form);

#if defined(__AMX_INT8__)
constexpr int TOKENS = 16;  // a tile of the processor's
constexpr int ABREAST = 1;
#elif defined(__AVX512F__)
constexpr int TOKENS = 6;  // of a tile: two vectors of rows times six tokens fill the registers
constexpr int ABREAST = 2;  // vectors of rows
#else
constexpr int TOKENS = 4;
constexpr int ABREAST = 1;
#endif

template <int N>
struct Int {
    static constexpr int value = N;
};

// The forms as types, so that each has kernels of its own: with_form(form, [](auto f) { ... f.bits ... }).
template <int BITS, int SIZE, Scale KIND, bool OFFSET>
struct FormOf {
    static constexpr int bits = BITS, size = SIZE;
    static constexpr Scale kind = KIND;
    static constexpr bool offset = OFFSET;
};

template <class Do>
QM_INLINE void with_form(const Form &f, Do act) {
    const bool halves = f.scale == Scale::half, large = f.group == 32;
    switch (f.bits) {
        case 8: return act(FormOf<8, 32, Scale::half, false>{});
        case 6: return act(FormOf<6, 16, Scale::super, false>{});
        case 5:
            if (!halves) return act(FormOf<5, 32, Scale::super, true>{});
            if (f.offset) return act(FormOf<5, 32, Scale::half, true>{});
            return act(FormOf<5, 32, Scale::half, false>{});
        case 4:
            if (f.scale == Scale::single) return act(FormOf<4, 32, Scale::single, false>{});
            if (halves && f.offset) return act(FormOf<4, 32, Scale::half, true>{});
            if (halves) return act(FormOf<4, 32, Scale::half, false>{});
            if (f.offset) return act(FormOf<4, 32, Scale::super, true>{});
            return act(FormOf<4, 32, Scale::super, false>{});
        case 3:
            if (large) return act(FormOf<3, 32, Scale::super, false>{});
            return act(FormOf<3, 16, Scale::super, false>{});
        default:
            if (halves) return act(FormOf<2, 32, Scale::half, false>{});
            if (large) return act(FormOf<2, 32, Scale::super, false>{});
            return act(FormOf<2, 16, Scale::super, true>{});
    }
}

void pack(const Form &, std::int64_t rows, std::int64_t cols, const std::uint8_t *src, std::uint8_t *dst, std::int64_t first,
          std::int64_t last);
void quantize_tiles(const float *x, std::int64_t stride, const Activations &a, std::int64_t first, std::int64_t last);
void multiply(const Weights &, const Activations &a, float *out, std::int64_t stride, bool add, std::int64_t first,
              std::int64_t last, std::uint8_t *buffer);
void multiply_one(const Weights &, const Activations &a, float *out, bool add, std::int64_t first, std::int64_t last);
void multiply_plain(const Weights &, const Activations &a, float *out, std::int64_t stride, bool add, std::int64_t first,
                    std::int64_t last, std::uint8_t *buffer);
void norm(const float *x, const float *weight, float eps, std::int64_t n, float *out);
void rotate(float *x, const float *cosines, const float *sines, std::int64_t half, bool halves_apart);
void layer_norm(const float *x, const float *weight, float eps, std::int64_t n, float *out);
void gate(const float *gate, const float *up, float *out, std::int64_t n, const Gate &how);
void limit(float *x, std::int64_t n, float scale, float cap);
void attend(const Heads &, const float *q, std::int64_t stride, std::int64_t n, std::int64_t position, bool same,
            std::int64_t window, float *out, std::int64_t out_stride, float *scores);
void store_key(const float *key, std::int64_t dims, std::uint16_t *keys, std::int64_t position);
void store_value(const float *value, std::int64_t dims, std::uint16_t *values, std::int64_t position);
std::int32_t read(const std::uint8_t *from, std::int64_t bytes);
extern const RecurrentKernels recurrences;

}  // namespace quantmill::QM_LEVEL
