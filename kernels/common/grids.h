// The lattice grids of the I-quants: which combinations of levels exist, and which of them lie nearest to one that does not.
//
// A point is a code: the level of weight i at bit `bits` * i (8 weights of 2 bits, levels 0 to 2; or 4 weights of 3 bits,
// levels 0 to 7). Distances are between odd numbers, 2 * level + 1, as ggml's quantizers measure them.
#pragma once

#include <cstdint>

namespace quantmill {

struct Grid {
    int weights;                // in a point: 8 or 4
    int bits;                   // of a level in a code: 2 or 3
    int size;                   // points
    const std::uint16_t *codes;  // of each point, by index
    const std::int8_t *points;  // what a point's levels stand for when dequantized: `weights` values each, by index

    // For every code: the index of its point, or, where it is on no point, ~c: its neighbours begin at neighbours + 16 * c.
    // Codes with a level that no point has (3, where bits is 2) are -1 with no chunks; no quantizer asks for them.
    const std::int32_t *map;
    // How many chunks of 16 codes the neighbours of a code fill (0: on the grid).
    const std::uint8_t *chunks;
    // Codes of points, nearest first and by index where equally near. A chunk is filled up with 0xffff where bits is 2 (all
    // levels 3: give that level an infinite error), else with the last neighbour again (it never wins a strict comparison
    // in order). Chunks are aligned to 32 bytes.
    const std::uint16_t *neighbours;
};

// Built on first use, by one thread; the references stay valid for the life of the process.
const Grid &grid_iq2_xxs();
const Grid &grid_iq2_xs();
const Grid &grid_iq2_s();
const Grid &grid_iq1();  // IQ1_S and IQ1_M
const Grid &grid_iq3_xxs();
const Grid &grid_iq3_s();

}  // namespace quantmill
