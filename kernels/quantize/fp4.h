// What MXFP4 and NVFP4 share: values of four bits, a sign and a float of two bits of exponent and one of mantissa (E2M1).
#pragma once

#include "common/simd.h"

namespace quantmill::QM_LEVEL {

// Twice the values, so that they are integers; scales are halved. There is no negative zero.
static constexpr float VALUES[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

}  // namespace quantmill::QM_LEVEL
