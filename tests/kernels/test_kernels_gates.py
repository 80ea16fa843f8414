"""Activations, gates and limits against float64, the same bits on every level and for any threads."""

import math
import re
from collections.abc import Callable

import numpy as np
import pytest

from forward_helpers import normal, on_every_level
from quantmill import _kernels


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "silu": lambda x: x * sigmoid(x),
    "gelu": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "gelu_erf": lambda x: x * np.vectorize(lambda v: 0.5 * math.erfc(-v / math.sqrt(2)))(x),
    "gelu_quick": lambda x: x * sigmoid(1.702 * x),
    "relu": lambda x: np.maximum(x, 0),
    "relu_squared": lambda x: np.maximum(x, 0) ** 2,
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "softplus": lambda x: np.logaddexp(0, x),
    "exp": np.exp,
}
SMALL = np.array([[1e-30, -1e-30, 1e-8, -1e-8, 1e-4, -1e-4, 0.01, -0.01, 0.1, 0.34657, 0.3466, 0.7]], np.float32)


def values(n: int) -> np.ndarray:
    return np.concatenate([normal(2, n) * 8, normal(2, n, seed=1) / 4, normal(1, n, seed=2) * 20])


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("n", [1, 5, 16, 33, 700])
def test_activations(name: str, n: int) -> None:
    x = values(n)

    def run(threads: int) -> np.ndarray:
        out = np.empty_like(x)
        _kernels.activate(name, x, out, threads)
        return out

    np.testing.assert_allclose(on_every_level(run), ACTIVATIONS[name](x.astype(np.float64)), rtol=8e-6, atol=3e-7)


@pytest.mark.parametrize("name", ["tanh", "softplus", "silu", "sigmoid", "exp", "gelu_erf"])
def test_what_is_small_is_not_lost(name: str) -> None:
    out = np.empty_like(SMALL)
    _kernels.activate(name, SMALL, out, 1)
    np.testing.assert_allclose(out, ACTIVATIONS[name](SMALL.astype(np.float64)), rtol=6e-7)


def test_the_tails_of_softplus_and_gelu() -> None:
    x = -np.linspace(0, 80, 801, dtype=np.float32).reshape(1, -1)
    out = np.empty_like(x)
    _kernels.activate("softplus", x, out, 1)
    np.testing.assert_allclose(out, np.log1p(np.exp(x.astype(np.float64))), rtol=6e-7)
    x = x[:, :90].copy()
    out = np.empty_like(x)
    _kernels.activate("gelu_erf", x, out, 1)  # exp of a square that was rounded: 2^-24 of up to 40
    np.testing.assert_allclose(out, ACTIVATIONS["gelu_erf"](x.astype(np.float64)), rtol=4e-6)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_at_the_ends(name: str) -> None:
    x = np.array([[-0.0, 0, -1e30, 1e30, np.inf, np.nan]], np.float32)

    def run(threads: int) -> np.ndarray:
        out = np.empty_like(x)
        _kernels.activate(name, x, out, threads)
        return out

    with np.errstate(all="ignore"):
        expected = ACTIVATIONS[name](x.astype(np.float64)).astype(np.float32)
    expected[0, 2] = {"relu": 0, "relu_squared": 0, "tanh": -1}.get(name, 0)
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(on_every_level(run), expected, rtol=1e-6)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_any_floats(name: str) -> None:
    """Denormal, huge and no numbers as often as others. Which NaN comes out is not promised."""
    gate, up = np.random.default_rng(3).integers(0, 1 << 32, (2, 20, 999)).astype(np.uint32).view(np.float32)

    def run(threads: int) -> np.ndarray:
        out = np.empty((2, *gate.shape), np.float32)
        _kernels.activate(name, gate, out[0], threads)
        _kernels.gated(name, gate, up, out[1], threads)
        return np.where(np.isnan(out), np.float32(np.nan), out)

    on_every_level(run)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("n", [3, 64, 301])
def test_gates(name: str, n: int) -> None:
    gate, up = normal(5, n) * 4, normal(5, n, seed=1)

    def run(threads: int) -> np.ndarray:
        out = gate.copy()
        _kernels.gated(name, out, up, out, threads)
        return out

    found = on_every_level(run)
    np.testing.assert_allclose(found, ACTIVATIONS[name](gate.astype(np.float64)) * up, rtol=8e-6, atol=4e-7)
    alone = np.empty_like(gate)
    _kernels.activate(name, gate, alone, 1)
    np.testing.assert_array_equal(found, alone * up)


def test_gates_of_their_own_names() -> None:
    gate, up = normal(5, 70) * 4, normal(5, 70, seed=1)
    for name, kernel in (("silu", _kernels.silu_mul), ("gelu", _kernels.gelu_mul)):
        one, other = np.empty_like(gate), np.empty_like(gate)
        kernel(gate, up, one, 1)
        _kernels.gated(name, gate, up, other, 1)
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("alpha", "shift"), [(1.702, 1.0), (1.0, 0.0)])
def test_clamped_swiglu(alpha: float, shift: float) -> None:
    """ggml_swiglu_oai and ggml_swiglu_clamp of ggml-cpu's ops.cpp."""
    gate, up = normal(5, 301) * 8, normal(5, 301, seed=1) * 8

    def run(threads: int) -> np.ndarray:
        out = np.empty_like(gate)
        _kernels.clamped_swiglu(gate, up, out, alpha, 7.0, shift, threads)
        return out

    g, u = np.minimum(gate.astype(np.float64), 7), np.clip(up.astype(np.float64), -7, 7)
    np.testing.assert_allclose(on_every_level(run), g * sigmoid(alpha * g) * (u + shift), rtol=8e-6, atol=1e-6)


def test_limits_and_products() -> None:
    x, y, row, factors = normal(5, 33) * 40, normal(5, 33, seed=1), normal(33, seed=2), normal(5, seed=3)

    def run(threads: int) -> np.ndarray:
        capped, clamped, product, scaled = x.copy(), x.copy(), x.copy(), x.copy()
        _kernels.soft_cap(capped, 30.0, threads)
        _kernels.clamp(clamped, -8.0, 20.0, threads)
        _kernels.multiply(product, y, product, threads)
        _kernels.multiply(product, row, product, threads)
        _kernels.scale_rows(scaled, factors, threads)
        return np.stack([capped, clamped, product, scaled])

    capped, clamped, product, scaled = on_every_level(run)
    np.testing.assert_allclose(capped, 30 * np.tanh(x.astype(np.float64) / 30), rtol=1e-6)
    np.testing.assert_array_equal(clamped, np.clip(x, -8, 20))
    np.testing.assert_array_equal(product, x * y * row)
    np.testing.assert_array_equal(scaled, x * factors[:, None])


def test_what_does_not_fit() -> None:
    x = np.zeros((3, 8), np.float32)
    names = ", ".join(ACTIVATIONS)
    cases = [
        (lambda: _kernels.activate("swish", x, x, 1), f'activation must be one of {names}, not "swish"'),
        (lambda: _kernels.gated("silu", x, x[:2], x, 1), "up must have 3 in dimension 0, not 2"),
        (lambda: _kernels.clamped_swiglu(x, x, x, 1.0, 0.0, 0.0, 1), "limit must be above 0, not 0"),
        (lambda: _kernels.soft_cap(x, 0.0, 1), "cap must be above 0, not 0"),
        (lambda: _kernels.clamp(x, 1.0, 0.0, 1), "low must be at most high, not 1"),
        (lambda: _kernels.scale_rows(x, x[0, :2].copy(), 1), "factors must have 3 in dimension 0, not 2"),
    ]  # fmt: skip
    for call, message in cases:
        with pytest.raises(ValueError, match=re.escape(message)):
            call()
