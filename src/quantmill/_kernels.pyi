"""The numeric kernels, compiled from kernels/. Arrays in, bytes out; see docs/kernels.md.

Bytes do not depend on the level of instruction sets that runs, nor on how rows are shared between calls.
"""

import numpy as np
import numpy.typing as npt

def quantize(
    type: str,
    src: npt.NDArray[np.float32],
    dst: npt.NDArray[np.uint8],
    importance: npt.NDArray[np.float32] | None = None,
    generation: int = 1,
) -> None:
    """Quantize the rows of `src`, shape (rows, cols), into `dst`, shape (rows * row bytes,), as ggml does.

    `importance` is None or has shape (cols,); `generation` is 1 (llama.cpp b4867 to b5490) or 2 (ggml 0.20.2). Arrays
    are C-contiguous and do not overlap. The interpreter's lock is released. ValueError says what does not fit, before a
    byte is written.
    """

def dequantize(type: str, src: npt.NDArray[np.uint8], dst: npt.NDArray[np.float32]) -> None:
    """Expand `src`, shape (rows * row bytes,), into `dst`, shape (rows, cols). Errors and lock as in quantize()."""

def isa() -> str:
    """The level whose kernels run: "x86-64-v2", "x86-64-v3", "x86-64-v4" or "aarch64".

    The highest this machine runs, unless the environment variable QUANTMILL_ISA names another when this module is
    imported (ImportError if this machine cannot run it).
    """

def isa_levels() -> list[str]:
    """The levels this machine runs, lowest first."""

def set_isa(level: str) -> None:
    """Run the kernels of another level from now on, in every thread; ValueError if this machine cannot."""

def quantize_types() -> list[str]:
    """The types that quantize() writes."""
