// Repacking: rows of the file become panels of sixteen rows, codes in bit planes.
#include "infer/level.h"

namespace quantmill::QM_LEVEL {

// The panel's scales of one block, at its row's place.
static void pack_scales(const Form &form, const Decoded &from, const std::uint8_t *block, std::int64_t at, int row,
                        std::uint8_t *head) {
    const int kinds = form.offset ? 2 : 1;
    if (form.scale == Scale::half) {  // the file's own bytes, for each group of a block
        const int size = 2 * ROWS * kinds, groups = form.block / GROUP;
        std::uint8_t *to = head + at * groups * size + 2 * row;
        for (int g = 0; g < groups; ++g, to += size) {
            std::memcpy(to, block, 2);
            if (form.offset) std::memcpy(to + 2 * ROWS, block + 2, 2);
        }
    } else if (form.scale == Scale::single) {
        std::memcpy(head + at * (4 * ROWS) + 4 * row, &from.d, 4);
    } else {
        const int parts = 256 / form.group, size = super_bytes(form.offset);
        std::uint8_t *super = head + at * (ROWS * (size + parts) * kinds), *bytes = super + size * ROWS * kinds + row;
        if (form.offset) {
            store_half(super + size * row, from.d);
            store_half(super + size * (ROWS + row), from.dmin);
        } else {
            std::memcpy(super + size * row, &from.d, 4);
        }
        for (int part = 0; part < parts; ++part) {
            bytes[part * ROWS] = std::uint8_t(from.scale[part]);
            if (form.offset) bytes[(parts + part) * ROWS] = from.min[part];
        }
    }
}

// The codes of one group of a row, four to a word.
static void pack_codes(int bits, const std::uint8_t *codes, std::uint8_t *to) {
    std::uint32_t words[8];
    std::memcpy(words, codes, 32);
    if (bits == 8) {
        for (int step = 0; step < 8; ++step) std::memcpy(to + 64 * step, words + step, 4);
        return;
    }
    int shift = 0;
    if (bits >= 4) {
        for (int step = 0; step < 8; step += 2, to += 64) {
            const std::uint32_t word = (words[step] & 0x0f0f0f0f) | (words[step + 1] & 0x0f0f0f0f) << 4;
            std::memcpy(to, &word, 4);
        }
        shift = 4;
    }
    if (bits & 2) {
        for (int step = 0; step < 8; step += 4, to += 64) {
            std::uint32_t word = 0;
            for (int i = 0; i < 4; ++i) word |= (words[step + i] >> shift & 0x03030303) << (2 * i);
            std::memcpy(to, &word, 4);
        }
        shift += 2;
    }
    if (bits & 1) {
        std::uint32_t word = 0;
        for (int i = 0; i < 8; ++i) word |= (words[i] >> shift & 0x01010101) << i;
        std::memcpy(to, &word, 4);
    }
}

static void pack_row(const Form &form, Decode decode, const std::uint8_t (&code_of)[256], std::int64_t cols,
                     const std::uint8_t *src, int row, std::uint8_t *panel) {
    std::uint8_t *codes = panel + head_bytes(form, cols) + 4 * row;
    const int bytes = ROWS * GROUP * form.bits / 8;
    Decoded block;
    for (std::int64_t at = 0; at < cols / form.block; ++at, src += form.size) {
        decode(src, block);
        pack_scales(form, block, src, at, row, panel);
        for (int j = 0; j < form.block; j += GROUP, codes += bytes) {
            std::uint8_t group[GROUP];
            for (int i = 0; i < GROUP; ++i) group[i] = code_of[std::uint8_t(block.value[j + i])];
            pack_codes(form.bits, group, codes);
        }
    }
}

static void pack_floats(const Form &form, std::int64_t cols, const std::uint8_t *src, int row, std::uint8_t *panel) {
    for (std::int64_t k = 0; k < cols; ++k) {
        std::memcpy(panel + (k * ROWS + row) * form.size, src + k * form.size, std::size_t(form.size));
    }
}

void pack(const Form &form, std::int64_t rows, std::int64_t cols, const std::uint8_t *src, std::uint8_t *dst,
          std::int64_t first, std::int64_t last) {
    std::uint8_t code_of[256] = {};
    for (int value = -128; value < 128; ++value) code_of[std::uint8_t(value)] = std::uint8_t(value + form.bias);
    if (form.values) {
        for (int code = (1 << form.bits) - 1; code >= 0; --code) code_of[std::uint8_t(form.values[code])] = std::uint8_t(code);
    }
    const std::int64_t bytes = panel_bytes(form, cols), row_size = row_bytes(form, cols);
    for (std::int64_t p = first; p < last; ++p) {
        std::uint8_t *panel = dst + p * bytes;
        std::memset(panel, 0, std::size_t(bytes));
        for (int r = 0; r < ROWS && p * ROWS + r < rows; ++r) {
            const std::uint8_t *from = src + (p * ROWS + r) * row_size;
            if (form.scale == Scale::none) pack_floats(form, cols, from, r, panel);
            else pack_row(form, decoder(form), code_of, cols, from, r, panel);
        }
    }
}

}  // namespace quantmill::QM_LEVEL
