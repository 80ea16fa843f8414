#include "common/grids.h"

#include <cstdlib>
#include <new>
#include <vector>

#include "common/grid_tables.h"

namespace quantmill {

namespace {

// What belongs to one kind of grid beside its codes. `near` is how many different distances count as neighbours.
struct Kind {
    int weights, bits, levels, near;
    std::int8_t values[8];
};

constexpr int CHUNK = 16;

// Squared distances between all pairs of half a code, in units of (2 levels)^2.
std::vector<std::uint8_t> half_distances(const Kind &kind) {
    const int half = kind.weights / 2, mask = (1 << kind.bits) - 1, count = 1 << (kind.bits * half);
    std::vector<std::uint8_t> table(std::size_t(count) * count);
    for (int a = 0; a < count; ++a) {
        for (int b = 0; b < count; ++b) {
            int sum = 0;
            for (int i = 0; i < half; ++i) {
                const int d = (a >> kind.bits * i & mask) - (b >> kind.bits * i & mask);
                sum += d * d;
            }
            table[std::size_t(a) * count + b] = std::uint8_t(sum);
        }
    }
    return table;
}

bool possible(int code, const Kind &kind) {
    for (int i = 0; i < kind.weights; ++i) {
        if ((code >> kind.bits * i & ((1 << kind.bits) - 1)) >= kind.levels) return false;
    }
    return true;
}

// Owns what a Grid points to. The aligned copy of the neighbours is never freed: a grid lives as long as the process.
struct Tables {
    std::vector<std::int8_t> points;
    std::vector<std::int32_t> map;
    std::vector<std::uint8_t> chunks;
    Grid grid;

    Tables(const Kind &kind, const std::uint16_t *codes, int size) {
        const int half_bits = kind.bits * kind.weights / 2, half_mask = (1 << half_bits) - 1, count = 1 << (2 * half_bits);
        points.resize(std::size_t(size) * kind.weights);
        map.assign(count, -1);
        chunks.assign(count, 0);
        for (int i = 0; i < size; ++i) {
            map[codes[i]] = i;
            for (int k = 0; k < kind.weights; ++k) {
                points[std::size_t(i) * kind.weights + k] = kind.values[codes[i] >> kind.bits * k & ((1 << kind.bits) - 1)];
            }
        }
        const std::vector<std::uint8_t> halves = half_distances(kind);
        std::vector<std::uint16_t> lists;
        std::vector<std::uint8_t> distance(size);
        for (int code = 0; code < count; ++code) {
            if (map[code] >= 0 || !possible(code, kind)) continue;
            const std::uint8_t *low = &halves[std::size_t(code & half_mask) << half_bits];
            const std::uint8_t *high = &halves[std::size_t(code >> half_bits) << half_bits];
            bool seen[256] = {};
            for (int i = 0; i < size; ++i) {
                distance[i] = std::uint8_t(low[codes[i] & half_mask] + high[codes[i] >> half_bits]);
                seen[distance[i]] = true;
            }
            map[code] = ~std::int32_t(lists.size() / CHUNK);
            int wanted = kind.near;
            for (int d = 0; d < 256 && wanted > 0; ++d) {
                if (!seen[d]) continue;
                --wanted;
                for (int i = 0; i < size; ++i) {
                    if (distance[i] == d) lists.push_back(codes[i]);
                }
            }
            const std::uint16_t filler = kind.bits == 2 ? 0xffff : lists.back();
            while (lists.size() % CHUNK) lists.push_back(filler);
            chunks[code] = std::uint8_t(lists.size() / CHUNK - std::size_t(~map[code]));
        }
        void *aligned = std::aligned_alloc(64, (lists.size() * 2 + 63) / 64 * 64);
        if (!aligned) throw std::bad_alloc();
        std::uint16_t *neighbours = static_cast<std::uint16_t *>(aligned);
        for (std::size_t i = 0; i < lists.size(); ++i) neighbours[i] = lists[i];
        grid = {kind.weights, kind.bits, size, codes, points.data(), map.data(), chunks.data(), neighbours};
    }
};

constexpr Kind kind_iq2_two = {8, 2, 3, 2, {8, 25, 43}};
constexpr Kind kind_iq2_one = {8, 2, 3, 1, {8, 25, 43}};
constexpr Kind kind_iq1 = {8, 2, 3, 3, {-1, 0, 1}};
constexpr Kind kind_iq3_xxs = {4, 3, 8, 2, {4, 12, 20, 28, 36, 44, 52, 62}};
constexpr Kind kind_iq3_s = {4, 3, 8, 3, {1, 3, 5, 7, 9, 11, 13, 15}};

}  // namespace

#define QM_GRID(name, kind)                                                                            \
    const Grid &grid_##name() {                                                                        \
        static const Tables tables(kind, name##_codes, int(sizeof name##_codes / sizeof *name##_codes)); \
        return tables.grid;                                                                            \
    }

QM_GRID(iq2_xxs, kind_iq2_two)
QM_GRID(iq2_xs, kind_iq2_two)
QM_GRID(iq2_s, kind_iq2_one)
QM_GRID(iq1, kind_iq1)
QM_GRID(iq3_xxs, kind_iq3_xxs)
QM_GRID(iq3_s, kind_iq3_s)

}  // namespace quantmill
