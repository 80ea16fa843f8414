// A short causal convolution of each channel.
#include "forward/recurrent/lanes.h"

namespace quantmill::QM_LEVEL {

static void convolve(const Convolution &of, std::int64_t first, std::int64_t last) {
    for (std::int64_t row = first; row < last; ++row) {
        const std::int64_t before = row % of.sequence, taps = before + 1 < of.width ? before + 1 : of.width;
        const float *x = of.x + (row - taps + 1) * of.channels, *weight = of.weight + (of.width - taps) * of.channels;
        float *out = of.out + row * of.channels;
        for (std::int64_t j = 0; j < of.channels; j += W) {
            const std::int64_t left = of.channels - j;
            V sum = {};
            for (std::int64_t i = 0; i < taps; ++i) {
                sum = fma(load_some(x + i * of.channels + j, left, 0.f), load_some(weight + i * of.channels + j, left, 0.f), sum);
            }
            if (of.bias) sum += load_some(of.bias + j, left, 0.f);
            store_some(out + j, left, sum);
        }
    }
}

extern const Convolve convolution;
const Convolve convolution = convolve;

}  // namespace quantmill::QM_LEVEL
