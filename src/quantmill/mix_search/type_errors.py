"""What each type loses of a tensor: squared errors weighed by importance, from the bytes that the quant step writes."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quantmill.engine.model import Model
from quantmill.engine.weight_source import GGUFSource

_STEP = 1 << 17  # weights that are compared at a time
Vectors = Callable[[str], NDArray[np.float32] | None]


def weighed_errors(model: Model, file: Path, vectors: Vectors) -> dict[str, float]:
    """Of each tensor in the file, by name: the sum over its weights of importance times squared difference to the
    model's. `vectors` gives a tensor's importance, of shape (matrices, columns); without one, all columns are alike."""
    source = GGUFSource(file)
    try:
        theirs = Model(source, model.hyper)
        return {name: _error(model, theirs, name, vectors(name)) for name in source.tensors()}
    finally:
        source.close()


def _error(model: Model, theirs: Model, name: str, vectors: NDArray[np.float32] | None) -> float:
    shape, _ = model.described(name)
    columns, height, matrices = shape[0], shape[1], math.prod(shape[2:])
    step = max(1, _STEP // columns)
    parts: list[float] = []
    for matrix in range(matrices):
        lost = np.zeros(columns)
        for begin in range(matrix * height, (matrix + 1) * height, step):
            end = min(begin + step, (matrix + 1) * height)
            difference = model.dense(name, begin, end).astype(np.float64) - theirs.dense(name, begin, end)
            # Down the columns: row is added to row in their order, whatever a machine's registers hold.
            lost += np.add.reduce(difference * difference, axis=0)
        weight = np.ones(columns) if vectors is None else vectors[matrix].astype(np.float64)
        parts += (lost * weight).tolist()
    return math.fsum(parts)


def predicted(sensitivity: float, errors: Mapping[str, float], probe: str) -> dict[str, float]:
    """The KL divergence that each type is expected to cost, by its name: in proportion to its error."""
    of = errors[probe]
    return {type_: sensitivity * error / of if of else 0.0 for type_, error in errors.items()}
