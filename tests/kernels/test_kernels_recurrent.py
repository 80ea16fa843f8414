"""Convolutions and layers with a state against float64, the same bits on every level and for any threads."""

import re

import numpy as np
import pytest

from forward_helpers import normal, on_every_level
from quantmill import _kernels


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(("channels", "width"), [(1, 4), (17, 3), (64, 4), (129, 4), (16, 1)])
def test_convolution(channels: int, width: int, biased: bool) -> None:
    x, weight = normal(26, channels), normal(channels, width, seed=1)
    bias = normal(channels, seed=2) if biased else None

    def run(threads: int) -> np.ndarray:
        out = np.full_like(x, np.nan)
        _kernels.convolve(x, weight, bias, out, 13, threads)
        return out

    expected = np.zeros(x.shape)
    for row in range(26):
        for tap in range(width):
            back = width - 1 - tap
            if row % 13 >= back:
                expected[row] += x[row - back].astype(np.float64) * weight[:, tap]
    expected += 0 if bias is None else bias
    np.testing.assert_allclose(on_every_level(run), expected, rtol=1e-5, atol=2e-6)


def scan_reference(x, dt, a, b, c, d, sequence: int) -> np.ndarray:
    """ssm_scan of ggml-cpu's ops.cpp and the skip of build_mamba2_layer, in float64."""
    m, heads, dims = x.shape
    out = np.zeros(x.shape)
    step = np.logaddexp(0, dt.astype(np.float64))
    a = a if a.ndim == 2 else np.repeat(a[:, None], b.shape[2], 1)
    groups = np.arange(heads) // (heads // b.shape[1])
    for row in range(m):
        if row % sequence == 0:
            state = np.zeros((heads, dims, b.shape[2]))
        decay = np.exp(step[row, :, None] * a)[:, None]
        state = state * decay + (x[row] * step[row, :, None])[:, :, None] * b[row, groups][:, None]
        out[row] = (state * c[row, groups][:, None]).sum(2)
    return out if d is None else out + x * d[:, None].astype(np.float64)


# heads, dims, groups, states
SCANS = [(4, 64, 2, 16), (2, 5, 1, 3), (3, 33, 3, 128), (6, 96, 2, 7), (1, 1, 1, 1)]


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("case", SCANS, ids=str)
def test_scan_of_heads(case: tuple, skip: bool) -> None:
    heads, dims, groups, states = case
    x, dt, a = normal(38, heads, dims), normal(38, heads, seed=1) * 2, -np.exp(normal(heads, seed=2))
    b, c = normal(38, groups, states, seed=3), normal(38, groups, states, seed=4)
    d = normal(heads, seed=5) if skip else None

    def run(threads: int) -> np.ndarray:
        out = np.full_like(x, np.nan)
        _kernels.ssm_scan(x, dt, a, b, c, d, out, 19, threads)
        return out

    expected = scan_reference(x, dt, a, b, c, d, 19)
    np.testing.assert_allclose(on_every_level(run), expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize(("channels", "states"), [(1, 16), (70, 16), (200, 5)])
def test_scan_of_channels(channels: int, states: int, skip: bool) -> None:
    x, dt, a = normal(38, channels, 1), normal(38, channels, seed=1) * 2, -np.exp(normal(channels, states, seed=2))
    b, c = normal(38, 1, states, seed=3), normal(38, 1, states, seed=4)
    d = normal(channels, seed=5) if skip else None

    def run(threads: int) -> np.ndarray:
        out = np.full_like(x, np.nan)
        _kernels.ssm_scan(x, dt, a, b, c, d, out, 19, threads)
        return out

    expected = scan_reference(x, dt, a, b, c, d, 19)
    np.testing.assert_allclose(on_every_level(run), expected, rtol=2e-5, atol=2e-5)


def delta_reference(q, k, v, g, beta, scale: float, sequence: int, interleaved: bool) -> np.ndarray:
    """gated_delta_net of ggml-cpu's ops.cpp in float64."""
    m, heads, dims = v.shape
    share = heads // k.shape[1]
    own = np.arange(heads) // share if interleaved else np.arange(heads) % k.shape[1]
    g = g if g.ndim == 3 else np.repeat(g[:, :, None], k.shape[2], 2)
    out = np.zeros(v.shape)
    for row in range(m):
        if row % sequence == 0:
            state = np.zeros((heads, k.shape[2], dims))
        keys, queries = k[row, own].astype(np.float64), q[row, own].astype(np.float64)
        state = state * np.exp(g[row].astype(np.float64))[:, :, None]
        change = (v[row] - np.einsum("hkv,hk->hv", state, keys)) * beta[row, :, None]
        state = state + keys[:, :, None] * change[:, None]
        out[row] = np.einsum("hkv,hk->hv", state, queries) * scale
    return out


# key heads, heads, key dims, value dims
DELTAS = [(2, 4, 16, 16), (1, 1, 128, 128), (2, 2, 5, 33), (3, 6, 17, 70), (1, 2, 1, 1)]


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("case", DELTAS, ids=str)
def test_delta_net(case: tuple, wide: bool, interleaved: bool) -> None:
    key_heads, heads, key_dims, dims = case
    q, k, v = normal(38, key_heads, key_dims), normal(38, key_heads, key_dims, seed=1), normal(38, heads, dims, seed=2)
    for rows in (q, k):
        rows /= np.linalg.norm(rows, axis=2, keepdims=True)
    g = -np.exp(normal(38, heads, key_dims, seed=3) if wide else normal(38, heads, seed=3))
    beta = 1 / (1 + np.exp(-normal(38, heads, seed=4)))

    def run(threads: int) -> np.ndarray:
        out = np.full_like(v, np.nan)
        _kernels.delta_net(q, k, v, g, beta, out, 0.25, 19, threads, interleaved=interleaved)
        return out

    expected = delta_reference(q, k, v, g, beta, 0.25, 19, interleaved)
    np.testing.assert_allclose(on_every_level(run), expected, rtol=1e-5, atol=2e-6)


def test_a_sequence_begins_without_a_state() -> None:
    x, dt, a = normal(30, 2, 8), normal(30, 2, seed=1), -np.ones(2, np.float32)
    b = normal(30, 1, 4, seed=2)
    together, alone = np.empty_like(x), np.empty((10, 2, 8), np.float32)
    _kernels.ssm_scan(x, dt, a, b, b, None, together, 10, 2)
    for start in (0, 10, 20):
        rows = slice(start, start + 10)
        _kernels.ssm_scan(x[rows], dt[rows], a, b[rows], b[rows], None, alone, 10, 2)
        np.testing.assert_array_equal(alone, together[rows])


def test_what_does_not_fit() -> None:
    x, dt, b, out = (np.zeros(shape, np.float32) for shape in ((6, 3, 8), (6, 3), (6, 2, 4), (6, 3, 8)))
    flat, weight, a = x.reshape(6, 24), np.zeros((24, 4), np.float32), np.zeros(3, np.float32)
    cases = [
        (lambda: _kernels.convolve(flat, weight, None, flat, 3, 1), "out and x must not overlap"),
        (lambda: _kernels.convolve(flat, weight, None, flat.copy(), 4, 1), "6 rows are not whole sequences of 4"),
        (lambda: _kernels.convolve(flat, weight, a, flat.copy(), 3, 1), "bias must have 24 in dimension 0, not 3"),
        (
            lambda: _kernels.ssm_scan(x, dt, a, b, b, None, out, 3, 1),
            "x's 3 heads are not a whole number for each of b's 2",
        ),
        (
            lambda: _kernels.ssm_scan(x, dt, np.zeros((3, 4), np.float32), b, b, None, out, 3, 1),
            "an a of every state needs heads of 1 dimension and 1 group, not 8 and 2",
        ),
        (
            lambda: _kernels.delta_net(b, b, x, dt, dt, out, 1, 3, 1),
            "v's 3 heads are not a whole number for each of k's 2",
        ),
        (lambda: _kernels.delta_net(x, x, x, dt, dt, x, 1, 3, 1), "out and q must not overlap"),
    ]  # fmt: skip
    for call, message in cases:
        with pytest.raises(ValueError, match=re.escape(message)):
            call()
