"""Writes common/grid_tables.h: the points of ggml's lattice grids, from the gguf package (gguf/quants.py, MIT).

Run it as `python kernels/programs/make_grids.py` after an update of gguf; the result is committed, so a build needs
no gguf.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf.quants import IQ1_S, IQ2_S, IQ2_XS, IQ2_XXS, IQ3_S, IQ3_XXS

GRIDS = {"iq2_xxs": IQ2_XXS, "iq2_xs": IQ2_XS, "iq2_s": IQ2_S, "iq1": IQ1_S, "iq3_xxs": IQ3_XXS, "iq3_s": IQ3_S}
PER_LINE = 18


def codes(grid: type) -> list[int]:
    """Points as numbers: the level of weight i (its place in grid_map) at bit bits * i; 8 of 2 bits or 4 of 3."""
    grid.init_grid()
    values = grid.grid.reshape(grid.grid_shape)
    levels = np.searchsorted(np.array(grid.grid_map, dtype=np.float32), values)
    bits = {8: 2, 4: 3}[grid.grid_shape[1]]
    return [int(code) for code in (levels << (bits * np.arange(grid.grid_shape[1]))).sum(axis=1)]


def main() -> None:
    lines = [
        "// Written by programs/make_grids.py from the gguf package (gguf/quants.py, MIT): do not edit.",
        "#pragma once",
        "",
        "#include <cstdint>",
        "",
        "namespace quantmill {",
    ]
    for name, grid in GRIDS.items():
        table = codes(grid)
        lines += ["", f"constexpr std::uint16_t {name}_codes[{len(table)}] = {{"]
        lines += [
            "    " + " ".join(f"{code}," for code in table[i : i + PER_LINE]) for i in range(0, len(table), PER_LINE)
        ]
        lines += ["};"]
    lines += ["", "}  // namespace quantmill", ""]
    (Path(__file__).parent.parent / "common" / "grid_tables.h").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
