// In double and without fma or libm, so that the tables are the same everywhere.
#include "forward/rope_table.h"

#include "forward/logarithm.h"

namespace quantmill {

// exp(x) for |x| < 700
static double exponential(double x) {
    const std::int64_t n = std::int64_t(x * 1.4426950408889634 + (x < 0 ? -0.5 : 0.5));
    const double r = (x - double(n) * 6.93147180369123816490e-01) - double(n) * 1.90821492927058770002e-10;
    double p = 1;
    for (int k = 16; k > 0; --k) p = p * r / k + 1;
    const std::int64_t bits = (n + 1023) * (std::int64_t(1) << 52);
    double power;
    std::memcpy(&power, &bits, sizeof power);
    return p * power;
}

// Both of |x| < 2^20 * pi / 2, by quarter turns; pi / 2 in three parts of which the first two, of 33 bits, multiply exactly.
static void cosine_sine(double x, double *cos, double *sin) {
    const std::int64_t n = std::int64_t(x * 0.63661977236758134308 + (x < 0 ? -0.5 : 0.5));
    const double turns = double(n);
    const double r = ((x - turns * 1.57079632673412561417e+00) - turns * 6.07710050630396597660e-11) - turns * 2.02226624879595063154e-21;
    const double square = r * r;
    double c = 1, s = 1;
    for (int k = 20; k > 0; k -= 2) {
        c = 1 - c * square / (k * (k - 1));
        s = 1 - s * square / (k * (k + 1));
    }
    s *= r;
    *cos = n & 1 ? ((n & 2) ? s : -s) : ((n & 2) ? -c : c);
    *sin = n & 1 ? ((n & 2) ? -c : c) : ((n & 2) ? -s : s);
}

// The dimension whose angle turns `rotations` times within the original context.
static double dimension_of(const RopeTable &of, double rotations) {
    const double turn = 6.283185307179586;
    return double(of.dims) * logarithm(double(of.original_context) / (rotations * turn)) / (2 * logarithm(of.base));
}

void rope_table(const RopeTable &of, std::int64_t first, std::int64_t positions, float *cos, float *sin) {
    const std::int64_t half = of.dims / 2;
    const double step = of.dims ? -2 * logarithm(of.base) / double(of.dims) : 0;
    double low = 0, high = 0, magnitude = of.attn_factor;
    if (of.ext_factor != 0) {
        low = __builtin_floor(dimension_of(of, of.beta_fast));
        high = __builtin_ceil(dimension_of(of, of.beta_slow));
        low = low < 0 ? 0 : low;
        high = high > double(of.dims - 1) ? double(of.dims - 1) : high;
        magnitude *= 1 + 0.1 * logarithm(1 / of.scale);
    }
    for (std::int64_t i = 0; i < half; ++i) {
        double frequency = exponential(step * double(i));
        if (of.factors) frequency /= double(of.factors[i]);
        double ramp = 0;
        if (of.ext_factor != 0) {
            const double width = high - low > 0.001 ? high - low : 0.001;
            ramp = (double(i) - low) / width;
            ramp = (1 - (ramp < 0 ? 0 : ramp > 1 ? 1 : ramp)) * of.ext_factor;
        }
        frequency *= of.scale * (1 - ramp) + ramp;
        for (std::int64_t p = 0; p < positions; ++p) {
            double c, s;
            cosine_sine(double(first + p) * frequency, &c, &s);
            cos[p * half + i] = float(c * magnitude);
            sin[p * half + i] = float(s * magnitude);
        }
    }
}

}  // namespace quantmill
