"""What becomes of a tensor's values on their way into a GGUF file, beside a cast: by the name in a table of tensors.

A change of a new kind is a function and a line of CHANGES.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

Values = NDArray[Any]  # in the checkpoint's own type; bf16 values come as their 16 bits
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Change:
    """`source`: the shape that each source has for a tensor of a shape in ggml's order; `rows`: of the sources' values
    and dtype, the tensor's rows from one to another, with their dtype."""

    source: Callable[[Shape], Shape]
    rows: Callable[[Shape, Sequence[Values], str, int, int], tuple[Values, str]]


def _squeezed(shape: Shape, sources: Sequence[Values], dtype: str, begin: int, end: int) -> tuple[Values, str]:
    return sources[0].reshape(-1, shape[0])[begin:end], dtype


CHANGES = {
    "squeeze": Change(lambda shape: (shape[1], 1, shape[0]), _squeezed),  # the weights of a convolution by channels
}
