"""The forward pass's kernels beside ggml's own operations, which work in float32 and in an order of their own."""

from ctypes import byref

import numpy as np
import pytest

from forward_helpers import normal
from ggml_peer.graph import FLOAT, INT, LONG, Graph
from quantmill import _kernels

BASE = 10000.0


def assert_close(ours: np.ndarray, theirs: np.ndarray, tolerance: float) -> None:
    """Within a share of the largest value."""
    assert np.abs(theirs).max() > 0
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


def rotated(x: np.ndarray, dims: int, mode: str, **options) -> np.ndarray:
    cos, sin = np.empty((len(x), dims // 2), np.float32), np.empty((len(x), dims // 2), np.float32)
    _kernels.rope_table(dims, BASE, cos, sin, **options)
    out = x.copy()
    _kernels.rope(out, cos, sin, mode, len(x), 1)
    return out


FACTORS = np.linspace(1, 40, 32, dtype=np.float32)
ROPES = {
    "part": (32, {}),
    "longrope": (64, {"freq_factors": FACTORS, "attn_factor": 1.19}),
    "yarn": (64, {"scale": 1 / 40, "ext_factor": 1.0, "attn_factor": 0.9, "beta_fast": 48.0, "beta_slow": 2.0,
                  "original_context": 4096}),
    "mixed": (48, {"scale": 1 / 8, "ext_factor": 0.7, "freq_factors": FACTORS[:24].copy(), "original_context": 2048}),
}  # fmt: skip


@pytest.mark.parametrize("mode", ["norm", "neox"])
@pytest.mark.parametrize("case", ROPES)
def test_rope(case: str, mode: str) -> None:
    dims, options = ROPES[case]
    x, defaults = normal(200, 3, 64), {"scale": 1.0, "ext_factor": 0.0, "attn_factor": 1.0}
    defaults |= {"beta_fast": 32.0, "beta_slow": 1.0} | options
    numbers = [defaults[name] for name in ("scale", "ext_factor", "attn_factor", "beta_fast", "beta_slow")]
    with Graph() as graph:
        factors = options.get("freq_factors")
        kinds = (INT(dims), INT(2 * (mode == "neox")), INT(options.get("original_context", 0)), FLOAT(BASE))
        positions = np.arange(200, dtype=np.int32)
        tensor = graph.apply("rope_ext", x, positions, factors, *kinds, *map(FLOAT, numbers))
        theirs = graph.compute(tensor, x.shape)
    assert_close(rotated(x, dims, mode, **options), theirs, 2e-5)  # angles of up to 200 in float32


@pytest.mark.parametrize("interleaved", [False, True])
def test_a_multimodal_rope_of_text(interleaved: bool) -> None:
    """Text has its position three times and a fourth of 0, which the last pairs of an interleaved rope have."""
    x, sections = normal(100, 3, 64), (12, 10, 10, 0)
    positions = np.concatenate([np.arange(100)] * 3 + [np.zeros(100)]).astype(np.int32)
    with Graph() as graph:
        scaling = map(FLOAT, (BASE, 1, 0, 1, 32, 1))
        kinds = (INT(64), byref((INT * 4)(*sections)), INT(40 if interleaved else 8), INT(0))
        theirs = graph.compute(graph.apply("rope_multi", x, positions, None, *kinds, *scaling), x.shape)
    fourth = [interleaved and pair >= 3 * sections[pair % 3] for pair in range(32)]
    factors = np.where(fourth, np.inf, 1).astype(np.float32)
    assert sum(fourth) == interleaved
    assert_close(rotated(x, 64, "neox", freq_factors=factors), theirs, 2e-5)


# soft cap, sinks, ALiBi's largest bias, chunk, window, dims of keys and of values
ATTENTIONS = [(5.0, False, 0, 0, 0, 64, 32), (50.0, False, 0, 0, 0, 64, 64), (0.0, True, 0, 0, 0, 64, 64),
              (0.0, False, 8, 0, 0, 64, 64), (0.0, False, 0, 64, 0, 64, 64), (30.0, True, 0, 50, 20, 64, 64),
              (0.0, False, 0, 0, 0, 192, 128)]  # fmt: skip


@pytest.mark.parametrize("case", ATTENTIONS, ids=str)
def test_attention(case: tuple) -> None:
    cap, with_sinks, bias, chunk, window, dims, value_dims = case
    n, heads, scale = 150, 4, 0.2
    q, k, v = normal(n, heads, dims), normal(n, heads, dims, seed=1), normal(n, heads, value_dims, seed=2)
    sinks = normal(heads, seed=3) * 3 if with_sinks else None
    i, j = np.arange(n)[:, None], np.arange(n)
    seen = (j <= i) & ((j >= i // chunk * chunk) if chunk else True) & ((j > i - window) if window else True)
    mask = np.where(seen, -np.abs(i - j) if bias else 0, -np.inf).astype(np.float32)
    with Graph() as graph:
        scores = graph.apply("mul_mat", k.transpose(1, 0, 2), q.transpose(1, 0, 2))
        if cap:
            scores = graph.apply("tanh", graph.apply("scale", scores, FLOAT(scale / cap)))
            scores = graph.apply("scale", scores, FLOAT(cap))
        scores = graph.apply("soft_max_ext", scores, mask, FLOAT(1 if cap else scale), FLOAT(bias))
        if sinks is not None:
            graph.add_sinks(scores, sinks)
        tensor = graph.apply("mul_mat", graph.tensor(v.transpose(1, 2, 0)), scores)
        theirs = graph.compute(tensor, (heads, n, value_dims)).transpose(1, 0, 2)
    slopes = 2.0 ** (-bias * np.arange(1, heads + 1, dtype=np.float32) / heads) if bias else None
    out = np.empty((n, heads, value_dims), np.float32)
    options = {"chunk": chunk, "soft_cap": cap, "sinks": sinks, "slopes": slopes}
    _kernels.attention(q, k, v, out, scale, n, window, 1, **options)
    assert_close(out, theirs, 4e-6)


def test_norms() -> None:
    x, out = normal(40, 300) * 3, np.empty((40, 300), np.float32)
    for name in ("norm", "rms_norm", "l2_norm"):
        with Graph() as graph:
            theirs = graph.compute(graph.apply(name, x, FLOAT(1e-5)), x.shape)
        if name == "norm":
            _kernels.layer_norm(x, None, None, out, 1e-5, 1)
        elif name == "rms_norm":
            _kernels.rms_norm(x, None, out, 1e-5, 1)
        else:
            _kernels.l2_norm(x, out, 1e-5, 1)
        assert_close(out, theirs, 5e-7)


@pytest.mark.parametrize("name", ["gelu_erf", "softplus", "silu", "sigmoid", "tanh", "exp", "relu"])
def test_activations(name: str) -> None:
    x, out = normal(40, 300) * 3, np.empty((40, 300), np.float32)
    with Graph() as graph:
        theirs = graph.compute(graph.apply(name, x), x.shape)
    _kernels.activate(name, x, out, 1)
    assert_close(out, theirs, 3e-7)


def test_clamped_swiglu() -> None:
    gate, up, out = normal(40, 300) * 9, normal(40, 300, seed=1) * 9, np.empty((40, 300), np.float32)
    with Graph() as graph:
        theirs = graph.compute(graph.apply("swiglu_oai", gate, up, FLOAT(1.702), FLOAT(7)), gate.shape)
    _kernels.clamped_swiglu(gate, up, out, 1.702, 7.0, 1.0, 1)
    assert_close(out, theirs, 3e-7)


def test_convolution() -> None:
    x, weight, out = normal(60, 37), normal(37, 4, seed=1), np.empty((60, 37), np.float32)
    padded = np.concatenate([np.zeros((3, 37), np.float32), x]).T
    with Graph() as graph:
        theirs = graph.compute(graph.apply("ssm_conv", padded[None], weight), x.shape)
    _kernels.convolve(x, weight, None, out, 60, 1)
    assert_close(out, theirs, 5e-7)


@pytest.mark.parametrize("case", [(4, 64, 2, 128, False), (70, 1, 1, 16, True)], ids=str)
def test_scans(case: tuple) -> None:
    heads, dims, groups, states, wide = case
    n = 60
    x, dt, b, c = (normal(n, heads, dims), normal(n, heads) * 2, normal(n, groups, states, seed=1),
                   normal(n, groups, states, seed=2))  # fmt: skip
    a = -np.exp(normal(heads, states if wide else 1, seed=3))
    with Graph() as graph:
        state, ids = np.zeros((1, heads, dims, states), np.float32), np.zeros(1, np.int32)
        tensor = graph.apply("ssm_scan", state, x[None], dt[None], a, b[None], c[None], ids, LONG(1))
        theirs = graph.compute(tensor, x.shape)
    out = np.empty_like(x)
    _kernels.ssm_scan(x, dt, a if wide else a.reshape(-1), b, c, None, out, n, 1)
    assert_close(out, theirs, 1e-6)


@pytest.mark.parametrize("wide", [False, True])
def test_delta_net(wide: bool) -> None:
    n, heads, key_heads, dims = 60, 4, 2, 64
    q, k, v = normal(n, key_heads, dims), normal(n, key_heads, dims, seed=1), normal(n, heads, dims, seed=2)
    for rows in (q, k):
        rows /= np.linalg.norm(rows, axis=2, keepdims=True)
    g, beta = -np.exp(normal(n, heads, dims if wide else 1)), 1 / (1 + np.exp(-normal(n, heads, 1, seed=3)))
    with Graph() as graph:
        state = np.zeros((1, heads, dims, dims), np.float32)
        tensor = graph.apply("gated_delta_net", q[None], k[None], v[None], g[None], beta[None], state, LONG(1))
        theirs = graph.compute(tensor, v.shape)
    out = np.empty_like(v)
    gates = g if wide else np.ascontiguousarray(g[..., 0])
    _kernels.delta_net(q, k, v, gates, np.ascontiguousarray(beta[..., 0]), out, 1 / 8, n, 1, interleaved=False)
    assert_close(out, theirs, 1e-6)
