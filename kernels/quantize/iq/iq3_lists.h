// Which points of a grid of four dimensions compete for each combination of levels.
#pragma once

#include "common/grids.h"
#include "common/simd.h"

namespace quantmill::QM_LEVEL {

// The levels of four weights as four bytes, each 16 times a level.
using Levels = std::uint32_t;

// Points are compared so many at a time; shorter lists repeat their last one, which then never wins.
constexpr int CHUNK = 4;

// The points of the grid that lie next to each code that is not one, in their order; nothing for codes that are.
//
// List `code` leaves out the points that lie behind another one in every direction: with weights inside the cells that they
// round to, each of their terms, and so each partial sum as it is rounded, is at least as large as that of the other point,
// which comes first. List 4096 + code is whole, for weights so near to a cell's border that rounding might order two equal terms.
struct Lists {
    std::uint16_t begin[2 * 4096 + 1];
    std::uint8_t points[1 << 16][4];  // bytes of Levels

    explicit Lists(const Grid &grid) {
        int count = 0;
        for (int list = 0; list < 2 * 4096; ++list) {
            begin[list] = std::uint16_t(count);
            const int code = list & 4095;
            if (grid.map[code] >= 0) continue;
            const std::uint16_t *near = grid.neighbours + 16 * ~grid.map[code];
            int n = 16 * grid.chunks[code];
            while (n > 1 && near[n - 1] == near[n - 2]) --n;  // padding repeats the last one
            for (int j = 0; j < n; ++j) {
                bool wanted = true;
                for (int i = 0; i < j && list < 4096; ++i) wanted = wanted && !behind(code, near[i], near[j]);
                if (wanted) append(near[j], count);
            }
            while ((count - begin[list]) % CHUNK) append(near[n - 1], count);
        }
        begin[2 * 4096] = std::uint16_t(count);
    }

    static Levels spread(int code) {
        return Levels(code & 7) << 4 | Levels(code & 0x38) << 9 | Levels(code & 0x1c0) << 14 | Levels(code & 0xe00) << 19;
    }
    static int code(Levels p) {
#if defined(__BMI2__)
        return int(_pext_u32(p, 0x70707070));
#else
        return int((p >> 4 & 7) | (p >> 9 & 0x38) | (p >> 14 & 0x1c0) | (p >> 19 & 0xe00));
#endif
    }

  private:
    // Whether `far` lies at least as far from `code` as `near` does, on the same side, for each of the four weights.
    static bool behind(int code, int near, int far) {
        for (int i = 0; i < 12; i += 3) {
            const int from = code >> i & 7, a = (near >> i & 7) - from, b = (far >> i & 7) - from;
            if (b < 0 ? a > 0 || a < b : a < 0 || a > b) return false;
        }
        return true;
    }
    void append(int code, int &count) {
        const Levels levels = spread(code);
        std::memcpy(points[count++], &levels, sizeof levels);
    }
};

// 2 * level + 1 of weight i.
QM_INLINE float odd(Levels p, int i) { return float(int(p >> (8 * i + 3) & 14) + 1); }

}  // namespace quantmill::QM_LEVEL
