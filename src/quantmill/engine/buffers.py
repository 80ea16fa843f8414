"""Room for numbers: memory that comes from the system and goes back to it as soon as an array is gone.

What the heap gave would stay with it in part, how much being a matter of chance, and an evaluation has a limit to keep.
"""

import contextlib
import mmap
from math import prod

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
_LARGE = 2 << 20  # bytes from which on larger pages are worth it


def floats(*shape: int) -> Floats:
    """An array of the shape, all zeros."""
    size = prod(shape)
    if not size:
        return np.empty(shape, np.float32)
    held = mmap.mmap(-1, 4 * size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if 4 * size >= _LARGE and hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a system without them
            held.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(held, np.float32).reshape(shape)


class BufferPool:
    """Buffers that are used again, by name: a layer needs the same ones for every group of chunks."""

    def __init__(self) -> None:
        self._buffers: dict[str, Floats] = {}

    def floats(self, name: str, *shape: int) -> Floats:
        """An array of the shape with any contents; what was in the buffer of that name before is lost."""
        size = prod(shape)
        held = self._buffers.get(name)
        if held is None or held.size < size:
            self._buffers.pop(name, None)
            held = self._buffers[name] = floats(size)
        return held[:size].reshape(shape)
