// The table of forms: how each type of the file is held once repacked.
#include <cstring>

#include "infer/infer.h"

namespace quantmill::infer {

static constexpr std::int8_t minus_8[16] = {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7};
static constexpr std::int8_t from_0[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
static constexpr std::int8_t minus_4[16] = {-4, -3, -2, -1, 0, 1, 2, 3};
static constexpr std::int8_t trits[16] = {-1, 0, 1, 2};
static constexpr std::int8_t signs[16] = {-1, 1, 0, 0};
static constexpr std::int8_t uneven[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
static constexpr std::int8_t floats_of_4[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
// The levels of the grids with both signs. IQ1's are 8 (level + shift), the shift being an eighth up or down.
static constexpr std::int8_t iq3_s[16] = {1, 3, 5, 7, 9, 11, 13, 15, -1, -3, -5, -7, -9, -11, -13, -15};
static constexpr std::int8_t iq3_xxs[16] = {4, 12, 20, 28, 36, 44, 52, 62, -4, -12, -20, -28, -36, -44, -52, -62};
static constexpr std::int8_t iq2[16] = {8, 25, 43, 0, -8, -25, -43, 0};
static constexpr std::int8_t iq1[16] = {-9, -7, -1, 1, 7, 9};

constexpr Form forms[] = {
    {"Q8_0", Layout::q8_0, 32, 34, 8, 32, Scale::half, false, 0, nullptr},
    {"Q4_0", Layout::q4_0, 32, 18, 4, 32, Scale::half, false, 0, minus_8},
    {"Q4_1", Layout::q4_1, 32, 20, 4, 32, Scale::half, true, 0, from_0},
    {"Q5_0", Layout::q5_0, 32, 22, 5, 32, Scale::half, false, 16, nullptr},
    {"Q5_1", Layout::q5_1, 32, 24, 5, 32, Scale::half, true, 0, nullptr},
    {"IQ4_NL", Layout::iq4_nl, 32, 18, 4, 32, Scale::half, false, 0, uneven},
    {"MXFP4", Layout::mxfp4, 32, 17, 4, 32, Scale::single, false, 0, floats_of_4},
    {"Q2_0", Layout::q2_0, 64, 18, 2, 32, Scale::half, false, 0, trits},
    {"Q1_0", Layout::q1_0, 128, 18, 2, 32, Scale::half, false, 0, signs},
    {"Q2_K", Layout::q2_k, 256, 84, 2, 16, Scale::super, true, 0, from_0},
    {"Q3_K", Layout::q3_k, 256, 110, 3, 16, Scale::super, false, 0, minus_4},
    {"Q4_K", Layout::q4_k, 256, 144, 4, 32, Scale::super, true, 0, from_0},
    {"Q5_K", Layout::q5_k, 256, 176, 5, 32, Scale::super, true, 0, nullptr},
    {"Q6_K", Layout::q6_k, 256, 210, 6, 16, Scale::super, false, 32, nullptr},
    {"IQ4_XS", Layout::iq4_xs, 256, 136, 4, 32, Scale::super, false, 0, uneven},
    {"IQ3_S", Layout::iq3_s, 256, 110, 4, 32, Scale::super, false, 0, iq3_s},
    {"IQ3_XXS", Layout::iq3_xxs, 256, 98, 4, 32, Scale::super, false, 0, iq3_xxs},
    {"IQ2_S", Layout::iq2_s, 256, 82, 3, 16, Scale::super, false, 0, iq2},
    {"IQ2_XS", Layout::iq2_xs, 256, 74, 3, 16, Scale::super, false, 0, iq2},
    {"IQ2_XXS", Layout::iq2_xxs, 256, 66, 3, 32, Scale::super, false, 0, iq2},
    {"IQ1_M", Layout::iq1_m, 256, 56, 3, 16, Scale::super, false, 0, iq1},
    {"IQ1_S", Layout::iq1_s, 256, 50, 3, 32, Scale::super, false, 0, iq1},
    {"TQ1_0", Layout::tq1_0, 256, 54, 2, 32, Scale::super, false, 0, trits},
    {"TQ2_0", Layout::tq2_0, 256, 66, 2, 32, Scale::super, false, 0, trits},
    {"F16", Layout::floats, 1, 2, 16, 32, Scale::none, false, 0, nullptr},
    {"BF16", Layout::floats, 1, 2, 16, 32, Scale::none, false, 0, nullptr},
    {"F32", Layout::floats, 1, 4, 32, 32, Scale::none, false, 0, nullptr},
    {nullptr, Layout::floats, 1, 1, 0, 0, Scale::none, false, 0, nullptr},
};

static constexpr bool rows_follow_layouts() {
    int layout = 0;
    for (const Form &form : forms) {
        if (form.layout == Layout::floats) break;
        if (form.layout != Layout(layout++)) return false;
    }
    return Layout(layout) == Layout::floats;
}
static_assert(rows_follow_layouts(), "each layout of blocks has one row, in the order of the enumeration");

const Form *find_form(const char *type) {
    for (const Form *form = forms; form->type; ++form) {
        if (!std::strcmp(form->type, type)) return form;
    }
    return nullptr;
}

std::int64_t row_bytes(const Form &form, std::int64_t cols) { return cols / form.block * form.size; }

std::int64_t head_bytes(const Form &form, std::int64_t cols) {
    const int kinds = form.offset ? 2 : 1;
    std::int64_t bytes = 0;
    if (form.scale == Scale::half) bytes = cols / GROUP * ROWS * 2 * kinds;
    if (form.scale == Scale::single) bytes = cols / GROUP * ROWS * 4;
    if (form.scale == Scale::super) bytes = cols / 256 * ROWS * (super_bytes(form.offset) + 256 / form.group) * kinds;
    return (bytes + 63) / 64 * 64;
}

std::int64_t panel_bytes(const Form &form, std::int64_t cols) { return head_bytes(form, cols) + cols * ROWS * form.bits / 8; }

int tile_bytes_per_col(const Form &form) {
    if (form.scale == Scale::none) return 4 * ROWS;
    return ROWS + 3 * 4 * ROWS / form.group;  // a byte a weight; scale, offset and bias of each group
}

}  // namespace quantmill::infer
