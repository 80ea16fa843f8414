// The most fma a level can do in a second: what products are measured against.
#include "forward/fma.h"
#include "forward/forward.h"

namespace quantmill::QM_LEVEL {

constexpr int CHAINS = W == 4 ? 8 : 12;  // independent, so that none waits for itself

// Steps of CHAINS fma on registers alone; returns the operations counted as two each. The values go nowhere but must be wanted.
static std::int64_t peak(std::int64_t steps, float *sink) {
    V sum[CHAINS];
    QM_UNROLL
    for (int i = 0; i < CHAINS; ++i) sum[i] = broadcast(float(i));
    const V a = broadcast(0.999f), b = broadcast(sink[0]);
    QM_ROLLED
    for (std::int64_t step = 0; step < steps; ++step) {
        QM_UNROLL
        for (int i = 0; i < CHAINS; ++i) sum[i] = fma(sum[i], a, b);
    }
    V total = {};
    QM_UNROLL
    for (int i = 0; i < CHAINS; ++i) total += sum[i];
    sink[0] = total[0];
    return steps * CHAINS * W * 2;
}

extern const Peak peak_rate;
const Peak peak_rate = peak;

}  // namespace quantmill::QM_LEVEL
