// The angles of rotary positions.
#pragma once

#include <cstdint>

namespace quantmill {

// ggml_rope_ext's parameters by its names; scale is its freq_scale.
struct RopeTable {
    std::int64_t dims;
    double base, scale, ext_factor, attn_factor, beta_fast, beta_slow;
    std::int64_t original_context;
    const float *factors;  // dims / 2 divisors of the angles, or null
};

// Cosines and sines, times the magnitude YaRN asks for, of positions first .. first + positions - 1: [positions][dims / 2].
void rope_table(const RopeTable &of, std::int64_t first, std::int64_t positions, float *cos, float *sin);

}  // namespace quantmill
