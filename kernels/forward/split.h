// A float as the sum of two bfloat16: 16 significant bits of its 24.
#pragma once

#include "common/simd.h"

namespace quantmill::QM_LEVEL {

// The bits of v rounded to bfloat16, halves to even; a NaN stays one.
QM_INLINE U to_bfloat16(V v) {
    const U w = (U)v;
    const U nearest = (w + 0x7fff + ((w >> 16) & 1)) >> 16;
    return (U)select((I)(w & 0x7fffffff) > 0x7f800000, (I)((w >> 16) | 64), (I)nearest);
}

struct Parts {
    U high, low;  // bfloat16 bits
};

// high is v rounded to bfloat16, low is what it lacks (exactly), rounded again; zero where high is not finite. Not for a thread that
// flushes denormals.
QM_INLINE Parts split_parts(V v) {
    const U high = to_bfloat16(v);
    const V rest = select((I)(high & 0x7f80) == 0x7f80, V{}, v - from_bits((I)(high << 16)));
    return {high, to_bfloat16(rest)};
}

}  // namespace quantmill::QM_LEVEL
