"""Norms against float64, the same bits on every level and for any threads."""

import re

import numpy as np
import pytest

from forward_helpers import normal, on_every_level
from quantmill import _kernels

EDGES = (1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 100)


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("n", EDGES)
@pytest.mark.parametrize("weighted", [False, True])
def test_rms_norm_of_groups(n: int, groups: int, weighted: bool) -> None:
    x, weight = normal(5, n * groups), normal(n * groups, seed=1) if weighted else None

    def run(threads: int) -> np.ndarray:
        out = x.copy()
        _kernels.rms_norm(out, weight, out, 1e-6, threads, groups=groups)
        return out

    wide = x.reshape(5, groups, n).astype(np.float64)
    expected = (wide / np.sqrt((wide**2).mean(2, keepdims=True) + 1e-6)).reshape(5, -1)
    np.testing.assert_allclose(on_every_level(run), expected if weight is None else expected * weight, rtol=1e-6)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("n", EDGES)
@pytest.mark.parametrize("given", ["", "weight", "bias", "weight bias"])
def test_layer_norm(n: int, groups: int, given: str) -> None:
    x = normal(4, n * groups) + 3
    weight = normal(n * groups, seed=1) if "weight" in given else None
    bias = normal(n * groups, seed=2) if "bias" in given else None

    def run(threads: int) -> np.ndarray:
        out = np.empty_like(x)
        _kernels.layer_norm(x, weight, bias, out, 1e-5, threads, groups=groups)
        return out

    wide = x.reshape(4, groups, n).astype(np.float64)
    centred = wide - wide.mean(2, keepdims=True)
    expected = (centred / np.sqrt((centred**2).mean(2, keepdims=True) + 1e-5)).reshape(4, -1)
    expected = expected * (1 if weight is None else weight) + (0 if bias is None else bias)
    np.testing.assert_allclose(on_every_level(run), expected, rtol=2e-6, atol=4e-6)


@pytest.mark.parametrize("n", EDGES)
@pytest.mark.parametrize("inside", [False, True])
def test_l2_norm(n: int, inside: bool) -> None:
    x = normal(5, n)
    x[3], x[4] = 0, 1e-9

    def run(threads: int) -> np.ndarray:
        out = x.copy()
        _kernels.l2_norm(out, out, 1e-3, threads, inside=inside)
        return out

    wide = x.astype(np.float64)
    squares = (wide**2).sum(1, keepdims=True)
    below = np.sqrt(squares + np.float32(1e-3)) if inside else np.maximum(np.sqrt(squares), np.float32(1e-3))
    np.testing.assert_allclose(on_every_level(run), wide / below, rtol=1e-6)


def test_what_does_not_fit() -> None:
    x, weight = np.zeros((3, 8), np.float32), np.zeros(8, np.float32)
    cases = [
        (lambda: _kernels.rms_norm(x, weight, x, 1e-6, 1, groups=3), "groups must divide the 8 columns, not be 3"),
        (lambda: _kernels.rms_norm(x, weight[:4], x, 1e-6, 1), "weight must have 8 in dimension 0, not 4"),
        (lambda: _kernels.layer_norm(x, None, x[0], x, 1e-6, 1), "out and bias must not overlap"),
        (lambda: _kernels.layer_norm(x, None, None, x[:2], 1e-6, 1), "out must have 3 in dimension 0, not 2"),
    ]  # fmt: skip
    for call, message in cases:
        with pytest.raises(ValueError, match=re.escape(message)):
            call()
