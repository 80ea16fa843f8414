"""What the tests of the quantizers share: rows that reach every branch, and ggml's own bytes at every level."""

import numpy as np

import ggml_oracle
from quantmill import _kernels
from quantmill.gguf.types import TYPES

LEVELS = _kernels.isa_levels()
LANES = {"x86-64-v2": 4, "x86-64-v3": 8, "x86-64-v4": 16, "aarch64": 4}


def quantize(
    type_: str, src: np.ndarray, importance: np.ndarray | None = None, arithmetic: int = ggml_oracle.ARITHMETIC
) -> np.ndarray:
    """Quantizes into the middle of a larger array and checks that not one byte around it is touched."""
    size, guard = len(src) * TYPES[type_].row_bytes(src.shape[1]), 64
    out = np.full(size + 2 * guard, 0xA5, np.uint8)
    _kernels.quantize(type_, src, out[guard : guard + size], importance, arithmetic)
    assert (out[:guard] == 0xA5).all()
    assert (out[guard + size :] == 0xA5).all()
    return out[guard : guard + size]


def assert_as_ggml(type_: str, src: np.ndarray, importance: np.ndarray | None) -> None:
    expected = ggml_oracle.quantize(type_, src, importance)
    for level in LEVELS:
        _kernels.set_isa(level)
        np.testing.assert_array_equal(quantize(type_, src, importance), expected, err_msg=f"{type_} at {level}")


def assert_dequantized_as_ggml(type_: str, src: np.ndarray, blocks: int) -> None:
    """The packed blocks `src`, which may be any bytes, at the level that is set."""
    out = np.zeros((blocks, TYPES[type_].block), np.float32)
    _kernels.dequantize(type_, src, out)
    expected = ggml_oracle.dequantize(type_, src, *out.shape)
    np.testing.assert_array_equal(out.view(np.uint32), expected.view(np.uint32), err_msg=type_)


def rows_of(kind: str, random: np.random.Generator, rows: int, cols: int) -> np.ndarray:
    """Rows of the sorts that reach every branch of the searches."""
    src = random.standard_normal((rows, cols)) * 0.02
    match kind:
        case "heavy":
            src = src * np.exp(random.standard_normal(src.shape) * 3)
        case "ties":
            src = np.round(src * 100) / 64
        case "cells' borders":
            # The largest is 15 or 16 steps: some candidate puts other weights where two levels are equally near.
            src = np.round(src * 200)
            src[:, ::32] = random.integers(15, 17)
        case "constant":
            src = np.repeat(src[:, ::32], 32, axis=1)
        case "sparse":
            src[random.random(src.shape) < 0.9] = 0
        case "near zero":
            src = src * np.repeat(10.0 ** random.integers(-44, -4, (rows, cols // 16)), 16, axis=1)
        case "one sign":
            src = np.abs(src) + random.integers(0, 3) * 0.01
    return src.astype(np.float32)


def weights_of(kind: str, random: np.random.Generator, cols: int) -> np.ndarray | None:
    weights = random.gamma(0.5, 1, cols)
    match kind:
        case "none":
            return None
        case "equal":
            weights[:] = 1
        case "zero groups":
            weights[np.repeat(random.random(cols // 16) < 0.4, 16)] = 0
        case "mostly zero":
            weights[random.random(cols) < 0.9] = 0
        case "all zero":
            weights[:] = 0
        case "minute":
            weights *= 10.0 ** random.integers(-44, -5)
        case "large":
            weights *= 1e6
    return weights.astype(np.float32)
