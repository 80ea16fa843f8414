"""What becomes of a tensor's values on their way into a GGUF file, beside a cast: by the name in a table of tensors.

A change of a new kind is a function and a line of CHANGES.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[Any]  # in the checkpoint's own type; bf16 values come as their 16 bits
Shape = tuple[int, ...]
Rows = Callable[[Shape, Sequence[Values], str, int, int], tuple[Values, str]]


@dataclass(frozen=True)
class Change:
    """`source`: the shape that each source has for a tensor of a shape in ggml's order; `rows`: of the sources' values
    and dtype, the tensor's rows from one to another, with their dtype; `second`: the second source's shape, where that
    is another; `dtype`: the sources' own, where they are no numbers."""

    source: Callable[[Shape], Shape]
    rows: Rows
    second: Callable[[Shape], Shape] | None = None
    dtype: str = ""

    def shape_of(self, shape: Shape, index: int) -> Shape:
        """The shape of a source by its place among them."""
        return self.second(shape) if self.second is not None and index == 1 else self.source(shape)


def _squeezed(shape: Shape, sources: Sequence[Values], dtype: str, begin: int, end: int) -> tuple[Values, str]:
    return sources[0].reshape(-1, shape[0])[begin:end], dtype


def _matrices(shape: Shape, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(matrix, first row, last row) of a stack's rows."""
    for index in range(begin // shape[1], -(-end // shape[1])):
        yield index, max(begin - index * shape[1], 0), min(end - index * shape[1], shape[1])


def _stacked(columns: Callable[[Values, Shape, int, int], Values]) -> Rows:
    """Rows of a stack, whose matrices are made each of one of the source's."""

    def rows(shape: Shape, sources: Sequence[Values], dtype: str, begin: int, end: int) -> tuple[Values, str]:
        stack = sources[0]
        return np.concatenate([columns(stack[i], shape, a, b) for i, a, b in _matrices(shape, begin, end)]), dtype

    return rows


def _every_other(first: int) -> Rows:
    """Of vectors, the numbers at even places or at odd ones."""
    return lambda shape, sources, dtype, begin, end: (sources[0][begin:end, first::2], dtype)


def _blocks(first: int, step: int) -> Rows:
    """Blocks of MXFP4: a scale before 16 bytes, of which a byte's halves are 16 numbers apart and no neighbours."""

    def rows(shape: Shape, sources: Sequence[Values], dtype: str, begin: int, end: int) -> tuple[Values, str]:
        parts = []
        for index, a, b in _matrices(shape, begin, end):
            wanted = slice(first + step * a, step * b, step)
            codes, scales = sources[0][index, wanted], sources[1][index, wanted]
            halves = np.stack([codes & 15, codes >> 4], axis=-1).reshape(*codes.shape[:-1], 2, codes.shape[-1])
            packed = halves[..., 0, :] | halves[..., 1, :] << 4
            parts.append(np.concatenate([scales[..., None], packed], axis=-1).reshape(b - a, -1))
        return np.concatenate(parts), "MXFP4"

    return rows


def _packed(first: int, step: int) -> Change:
    def codes(shape: Shape) -> Shape:
        return shape[2], step * shape[1], shape[0] // 32, 16

    return Change(codes, _blocks(first, step), lambda shape: codes(shape)[:3], "U8")


CHANGES = {
    "squeeze": Change(lambda shape: (shape[1], 1, shape[0]), _squeezed),  # the weights of a convolution by channels
    # Stacks of matrices, as they are, turned, or of those that hold gates and what goes up: by halves or in turn.
    "turned": Change(lambda s: (s[2], s[0], s[1]), _stacked(lambda m, shape, a, b: m[:, a:b].T)),
    "turned first half": Change(lambda s: (s[2], s[0], 2 * s[1]), _stacked(lambda m, shape, a, b: m[:, a:b].T)),
    "turned second half": Change(
        lambda s: (s[2], s[0], 2 * s[1]), _stacked(lambda m, shape, a, b: m[:, shape[1] + a : shape[1] + b].T)
    ),
    "turned even": Change(lambda s: (s[2], s[0], 2 * s[1]), _stacked(lambda m, shape, a, b: m[:, 2 * a : 2 * b : 2].T)),
    "turned odd": Change(
        lambda s: (s[2], s[0], 2 * s[1]), _stacked(lambda m, shape, a, b: m[:, 2 * a + 1 : 2 * b : 2].T)
    ),
    "first half": Change(lambda s: (s[2], 2 * s[1], s[0]), _stacked(lambda m, shape, a, b: m[a:b])),
    "second half": Change(
        lambda s: (s[2], 2 * s[1], s[0]), _stacked(lambda m, shape, a, b: m[shape[1] + a : shape[1] + b])
    ),
    "even": Change(lambda s: (s[1], 2 * s[0]), _every_other(0)),
    "odd": Change(lambda s: (s[1], 2 * s[0]), _every_other(1)),
    "blocks": _packed(0, 1),
    "even blocks": _packed(0, 2),
    "odd blocks": _packed(1, 2),
}
