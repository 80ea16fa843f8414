"""Matrices in FP8 as floats: every weight times the scale of its block, as the converter computes it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantmill.architectures.errors import DamagedModel, UnsuitableModel
from quantmill.architectures.packing import SCALE, block, packing
from quantmill.checkpoint.safetensors import Weight

DTYPE = "F8_E4M3"
_SCALES = {"BF16": "<u2", "F16": "<f2", "F32": "<f4"}


def _value(code: int) -> float:
    """What 8 bits mean: 1 of sign, 4 of exponent, 3 of fraction; there are no infinities, and two NaNs."""
    exponent, fraction = code >> 3 & 15, code & 7
    if code & 127 == 127:
        return float("nan")
    size = (fraction / 8 + (exponent > 0)) * 2.0 ** (max(exponent, 1) - 7)
    return -size if code & 128 else size


_VALUES = np.array([_value(code) for code in range(256)], np.float32)


def check(config: Mapping[str, Any], weights: Mapping[str, Weight], source: str) -> None:
    """Raises a ModelError unless the tensor is a matrix that has its scales."""
    weight = weights[source]
    if packing(config) != "fp8":
        raise UnsuitableModel(
            f"{weight.file}: the tensor {source!r} is {weight.dtype}; BF16, F16, F32 and F64 can be converted"
        )
    if len(weight.shape) != 2 or source + SCALE not in weights:
        raise DamagedModel(
            f"{weight.file}: the tensor {source!r} is {weight.dtype} and has no {source + SCALE!r}; a matrix with its "
            "scales would be right"
        )
    scale = weights[source + SCALE]
    expected = tuple(-(-size // step) for size, step in zip(weight.shape, block(config), strict=True))
    if scale.shape != expected or scale.dtype not in _SCALES:
        raise DamagedModel(
            f"{scale.file}: the tensor {source + SCALE!r} is {scale.dtype} of shape {list(scale.shape)}; BF16, F16 or "
            f"F32 of {list(expected)} would be right"
        )


def floats(config: Mapping[str, Any], weights: Mapping[str, Weight], source: str, rows: Any) -> NDArray[np.float32]:
    """Rows of the matrix, by their slice or their numbers."""
    weight, scale = weights[source], weights[source + SCALE]
    height, width = block(config)
    factors = scale.data.view(_SCALES[scale.dtype]).reshape(scale.shape)
    factors = factors[np.arange(weight.shape[0])[rows] // height]
    factors = (factors.astype("<u4") << 16).view("<f4") if scale.dtype == "BF16" else factors.astype("<f4")
    values: NDArray[np.float32] = _VALUES[weight.data.reshape(weight.shape)[rows]]
    with np.errstate(over="ignore", invalid="ignore"):
        values *= np.repeat(factors, width, axis=1)[:, : weight.shape[1]]
    return values
