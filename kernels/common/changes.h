// How ggml's quantizers compute has changed over time. Here is what changed and in which order; the kernels ask for single changes.
#pragma once

namespace quantmill {

// By the first build of llama.cpp with it. The numbers are those of reference/arithmetic.py.
enum class Change {
    guards = 2,        // b6301: no division by a sum of squares that is zero (make_qp_quants); IQ1 takes any cut for better than none
    on_grid = 3,       // b6673: IQ3_XXS takes a group's levels for points before its search
    cleared = 4,       // b8229: IQ2, IQ3 and IQ1 begin each group anew, where they kept levels and shifts of another one
    iq4_guard = 5,     // b8356: no division by a sum of squares that is zero in IQ4_NL and IQ4_XS
    running_sums = 6,  // b11108: IQ1_M's cuts are judged by running sums
};

// Those that are made: all up to a number, none for that of b4234.
struct Changes {
    static constexpr int NONE = 1, ALL = int(Change::running_sums);
    int last;

    constexpr bool has(Change change) const { return last >= int(change); }
};

}  // namespace quantmill
