"""Each tensor's error against the base's: how much of it the quantization lost."""

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quantmill import _kernels, gguf
from quantmill.gguf import GGUFFile, TensorInfo
from quantmill.quality.errors import NotOneModel
from quantmill.statistics import rounded

SAMPLE = 1 << 20  # weights of a tensor that are compared: whole rows, evenly spaced
_STEP = 1 << 17  # of them at a time
AS_ZEROS = 0.99  # an error, as a share of the weights: zeros have 1, the narrowest type 0.6 on ordinary weights
WHOLE_ROWS, LEAST_ROWS = 64, 4  # of a tensor, and of each of a stack's matrices, that show such an error


def errors(base: Path, file: Path, place: str) -> dict[str, float]:
    """Of each tensor with other types in base and file: the root mean square of the differences, as a share of that of
    the base's weights, by name in the base's order.

    At most SAMPLE weights a tensor are looked at, in evenly spaced rows. Raises a QualityError, which calls the file
    `place`, when the file lacks a tensor or has it in another shape.
    """
    with gguf.read(base) as ours, gguf.read(file) as theirs:
        found = {}
        for name, info in ours.tensors.items():
            other = theirs.tensors.get(name)
            if other is None:
                raise NotOneModel(f"{place}: no tensor {name}, which its base has; it is not a file of this model")
            if _trimmed(other) != _trimmed(info):
                raise NotOneModel(
                    f"{place}: {name} is {_shape(other)}, and {_shape(info)} in its base; compare files of one model"
                )
            if other.type is not info.type:
                found[name] = rounded(_error(ours, info, theirs, other))
        return found


def spoiled(base: Path, files: Iterable[Path]) -> dict[str, list[int]]:
    """The tensors of the files, which are those of the base, that lost as much as zeros in their place would have: of a
    stack which of its matrices, by name. A few rows of each matrix are looked at."""
    found: dict[str, list[int]] = {}
    with gguf.read(base) as ours:
        for file in files:
            with gguf.read(file) as theirs:
                for name, other in theirs.tensors.items():
                    info = ours.tensors[name]
                    if other.type is not info.type and len(info.shape) > 1:
                        matrices = _spoiled(ours, info, theirs, other)
                        if matrices:
                            found[name] = matrices if len(info.shape) > 2 else []
    return found


def _spoiled(ours: GGUFFile, info: TensorInfo, theirs: GGUFFile, other: TensorInfo) -> list[int]:
    height, count = info.shape[1], math.prod(info.shape[2:])
    taken = min(height, max(LEAST_ROWS, WHOLE_ROWS // count))
    rows, found = np.arange(taken, dtype=np.int64) * height // taken, []
    for matrix in range(count):
        reference = _rows(ours, info, matrix * height + rows).astype(np.float64)
        lost = np.square(_rows(theirs, other, matrix * height + rows) - reference).sum()
        whole = np.square(reference).sum()
        if whole and lost >= AS_ZEROS**2 * whole:
            found.append(matrix)
    return found


def bits(file: Path) -> float:
    """Bits a weight, of the tensors alone."""
    with gguf.read(file) as opened:
        size = sum(info.nbytes for info in opened.tensors.values())
        return 8 * size / sum(info.n_elements for info in opened.tensors.values())


def _trimmed(info: TensorInfo) -> tuple[int, ...]:
    """The shape without ones at its end, which converters write and quantizers do not."""
    shape = list(info.shape)
    while len(shape) > 1 and shape[-1] == 1:
        shape.pop()
    return tuple(shape)


def _shape(info: TensorInfo) -> str:
    return " x ".join(map(str, info.shape))


def _error(ours: GGUFFile, info: TensorInfo, theirs: GGUFFile, other: TensorInfo) -> float:
    columns, count = info.shape[0], math.prod(info.shape[1:])
    taken = min(count, max(1, SAMPLE // columns))
    rows = np.arange(taken, dtype=np.int64) * count // taken
    lost, whole = np.zeros(columns), np.zeros(columns)
    step = max(1, _STEP // columns)
    for begin in range(0, taken, step):
        part = rows[begin : begin + step]
        reference = _rows(ours, info, part).astype(np.float64)
        difference = _rows(theirs, other, part) - reference
        # Down the columns: row is added to row in their order, whatever a machine's registers hold.
        lost += np.add.reduce(difference * difference, axis=0)
        whole += np.add.reduce(reference * reference, axis=0)
    of = math.fsum(whole.tolist())
    return math.sqrt(math.fsum(lost.tolist()) / of) if of else 0.0


def _rows(file: GGUFFile, info: TensorInfo, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    raw = file.data(info).reshape(-1, info.type.row_bytes(info.shape[0]))[rows]
    out = np.empty((len(rows), info.shape[0]), np.float32)
    _kernels.dequantize(info.type.name, np.ascontiguousarray(raw).reshape(-1), out)
    return out
