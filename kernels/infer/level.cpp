// The table of one level's inference kernels.
#include "infer/level.h"

namespace quantmill::QM_LEVEL {

extern const InferKernels kernels;
const InferKernels kernels = {TOKENS, pack, quantize_tiles, multiply, multiply_one, multiply_plain, norm, layer_norm,
                              rotate, gate, limit,          attend,   store_key,    store_value,    read,         &recurrences};

}  // namespace quantmill::QM_LEVEL
