// log of one double, the same bits everywhere: for files compiled without contraction.
#pragma once

#include <cstdint>
#include <cstring>

// No inline function that the linker could merge across levels: every file that includes this has its own.
static inline double logarithm(double x) __attribute__((unused));

// Within 2 units in the last place of its larger term; x is a positive normal number or infinite. NaN stays NaN.
static inline double logarithm(double x) {
    if (!(x < __builtin_inf())) return x;
    std::int64_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    // x = 2^exponent * m with m from sqrt(1/2) to sqrt(2)
    const std::int64_t exponent = (bits - 0x3fe6a09e667f3bcd) >> 52;
    bits -= exponent * (std::int64_t(1) << 52);
    double m;
    std::memcpy(&m, &bits, sizeof m);
    // log(m) = 2 artanh(s); |s| <= 0.172
    const double s = (m - 1) / (m + 1), square = s * s;
    double p = 0;
    for (int odd = 23; odd > 1; odd -= 2) p = (p + 1. / odd) * square;
    const double n = double(exponent);
    return n * 6.93147180369123816490e-01 + (n * 1.90821492927058770002e-10 + (2 * s * p + 2 * s));
}
