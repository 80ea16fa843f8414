// One level's kernels of the forward pass, together.
#include "forward/forward.h"

namespace quantmill::QM_LEVEL {

extern const Packing packing;
extern const Product f32_product, bf16x2_product;
extern const Rows rows;
extern const Gates gates;
extern const Scores scores;
extern const Attend attend;
extern const Peak peak_rate;
extern const Convolve convolution;
extern const ScanKernel scan;
extern const DeltaKernel delta;

extern const Forward forward;
const Forward forward = {&packing, &f32_product, &bf16x2_product, &rows, &gates, &scores, &attend, &peak_rate,
                         &convolution, &scan, &delta};

}  // namespace quantmill::QM_LEVEL
