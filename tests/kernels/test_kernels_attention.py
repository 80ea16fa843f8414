"""Rotary positions and attention against float64, the same bits on every level and for any threads."""

import re

import numpy as np
import pytest

from forward_helpers import normal, on_every_level
from quantmill import _kernels


def tables(positions: int, dims: int, base: float, **options) -> tuple[np.ndarray, np.ndarray]:
    cos, sin = np.empty((positions, dims // 2), np.float32), np.empty((positions, dims // 2), np.float32)
    _kernels.rope_table(dims, base, cos, sin, **options)
    return cos, sin


def test_rope_angles() -> None:
    for first, base, factors in ((0, 10000.0, None), (100_000, 1e6, np.linspace(1, 8, 32, dtype=np.float32))):
        cos, sin = tables(600, 64, base, scale=0.25, freq_factors=factors, first=first)
        angle = np.arange(first, first + 600)[:, None] * base ** (-np.arange(32) / 32) * 0.25
        angle = angle if factors is None else angle / factors
        np.testing.assert_allclose(cos, np.cos(angle), atol=6e-8)
        np.testing.assert_allclose(sin, np.sin(angle), atol=6e-8)


def test_yarn() -> None:
    """By the paper (arXiv 2309.00071): wavelengths that fit 32 times into the original context stay, those that do not
    fit once are stretched by the factor, with a ramp over the dimensions between."""
    dims, base, factor, context = 128, 1e6, 4.0, 32768
    cos, sin = tables(50, dims, base, scale=1 / factor, ext_factor=1.0, original_context=context)
    pairs = np.arange(dims // 2)
    low = max(0, np.floor(dims * np.log(context / (32 * 2 * np.pi)) / (2 * np.log(base))))
    high = min(dims - 1, np.ceil(dims * np.log(context / (2 * np.pi)) / (2 * np.log(base))))
    stretched = np.clip((pairs - low) / (high - low), 0, 1)
    assert stretched[0] == 0
    assert stretched[-1] == 1
    frequency = base ** (-2 * pairs / dims) * (stretched / factor + 1 - stretched)
    angle, magnitude = np.arange(50)[:, None] * frequency, 1 + 0.1 * np.log(factor)
    np.testing.assert_allclose(cos, np.cos(angle) * magnitude, atol=2e-7)
    np.testing.assert_allclose(sin, np.sin(angle) * magnitude, atol=2e-7)


@pytest.mark.parametrize("mode", ["neox", "norm"])
@pytest.mark.parametrize("dims", [2, 6, 8, 34])
def test_rope(mode: str, dims: int) -> None:
    cos, sin = tables(40, dims, 10000.0)
    x = normal(70, 3, 40)

    def run(threads: int) -> np.ndarray:
        out = x.copy()
        _kernels.rope(out, cos, sin, mode, 35, threads)
        return out

    half = dims // 2
    a = np.arange(half) if mode == "neox" else np.arange(0, dims, 2)
    b = a + half if mode == "neox" else a + 1
    expected, position = x.copy(), np.arange(70) % 35
    c, s = cos[position][:, None], sin[position][:, None]
    expected[..., a], expected[..., b] = x[..., a] * c - x[..., b] * s, x[..., a] * s + x[..., b] * c
    np.testing.assert_array_equal(on_every_level(run), expected)


@pytest.mark.parametrize("mode", ["neox", "norm"])
@pytest.mark.parametrize(("rotated", "offset"), [(8, 0), (34, 3), (64, 128), (6, 7)])
def test_rope_of_a_part_of_a_head(mode: str, rotated: int, offset: int) -> None:
    cos, sin = tables(20, rotated, 10000.0)
    x = normal(40, 3, offset + rotated + 5)

    def run(threads: int) -> np.ndarray:
        out = x.copy()
        _kernels.rope(out, cos, sin, mode, 20, threads, offset=offset)
        return out

    part = x[..., offset : offset + rotated].copy()
    _kernels.rope(part, cos, sin, mode, 20, 1)
    expected = x.copy()
    expected[..., offset : offset + rotated] = part
    np.testing.assert_array_equal(on_every_level(run), expected)


def test_longrope() -> None:
    """Phi-3's: a divisor for each pair, long or short ones, and a magnitude; no YaRN."""
    factors = np.linspace(1, 60, 48, dtype=np.float32)
    cos, sin = tables(300, 96, 10000.0, freq_factors=factors, attn_factor=1.19)
    angle = np.arange(300)[:, None] * 10000.0 ** (-np.arange(48) / 48) / factors
    np.testing.assert_allclose(cos, np.cos(angle) * 1.19, atol=1e-7)
    np.testing.assert_allclose(sin, np.sin(angle) * 1.19, atol=1e-7)


def test_yarn_with_parameters_of_its_own() -> None:
    """rope_yarn of ggml-cpu's ops.cpp in float64, an ext_factor below 1 included."""
    dims, base, context, scale = 64, 10000.0, 4096, 1 / 40
    options = {"ext_factor": 0.7, "attn_factor": 0.9, "beta_fast": 48.0, "beta_slow": 2.0}
    factors = np.linspace(1, 3, 32, dtype=np.float32)
    cos, sin = tables(100, dims, base, scale=scale, freq_factors=factors, original_context=context, **options)
    low, high = (dims * np.log(context / (beta * 2 * np.pi)) / (2 * np.log(base)) for beta in (48.0, 2.0))
    pairs = np.arange(32)
    mix = (1 - np.clip((pairs - np.floor(low)) / (np.ceil(high) - np.floor(low)), 0, 1)) * 0.7
    plain = np.arange(100)[:, None] * base ** (-pairs / 32) / factors
    angle, magnitude = plain * scale * (1 - mix) + plain * mix, 0.9 * (1 + 0.1 * np.log(1 / scale))
    np.testing.assert_allclose(cos, np.cos(angle) * magnitude, atol=2e-7)
    np.testing.assert_allclose(sin, np.sin(angle) * magnitude, atol=2e-7)


def reference(
    q, k, v, scale: float, sequence: int, window: int, chunk: int = 0, soft_cap: float = 0, sinks=None, slopes=None
) -> np.ndarray:
    out = np.zeros((*q.shape[:2], v.shape[2]))
    group = q.shape[1] // k.shape[1]
    i, j = np.arange(sequence)[:, None], np.arange(sequence)
    seen = (j <= i) & ((j > i - window) | (window == 0))
    if chunk:
        seen &= j >= i // chunk * chunk
    for start in range(0, q.shape[0], sequence):
        rows = slice(start, start + sequence)
        for head in range(q.shape[1]):
            scores = q[rows, head].astype(np.float64) @ k[rows, head // group].T.astype(np.float64) * scale
            if soft_cap:
                scores = soft_cap * np.tanh(scores / soft_cap)
            if slopes is not None:
                scores = scores - slopes[head] * (i - j)
            weights = np.exp(np.where(seen, scores - scores.max(1, keepdims=True), -np.inf))
            total = weights.sum(1, keepdims=True)
            if sinks is not None:
                total += np.exp(sinks[head] - scores.max(1, keepdims=True))
            out[rows, head] = weights / total @ v[rows, head // group].astype(np.float64)
    return out


# sequence, sequences, heads, kv heads, dims, value dims, window
CASES = [(1, 2, 2, 1, 8, 8, 0), (47, 1, 2, 2, 5, 33, 0), (48, 2, 4, 2, 64, 64, 0),
         (49, 1, 3, 1, 16, 16, 0), (100, 1, 2, 1, 40, 40, 0), (130, 2, 2, 2, 64, 64, 17),
         (65, 1, 1, 1, 32, 31, 1), (97, 1, 2, 1, 64, 64, 64)]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_attention(case: tuple) -> None:
    sequence, sequences, heads, kv_heads, dims, value_dims, window = case
    m = sequence * sequences
    q, k, v = normal(m, heads, dims), normal(m, kv_heads, dims, seed=1), normal(m, kv_heads, value_dims, seed=2)

    def run(threads: int) -> np.ndarray:
        out = np.full((m, heads, value_dims), np.nan, np.float32)
        _kernels.attention(q, k, v, out, 0.4, sequence, window, threads)
        return out

    # scores of about 20 are off by up to 64 * 2^-24 of the sum of their products' magnitudes, and so are the weights
    expected = reference(q, k, v, 0.4, sequence, window)
    np.testing.assert_allclose(on_every_level(run), expected, rtol=1e-5, atol=1e-5)


# sequence, window, chunk, soft cap, whether there are sinks, whether there are slopes
VARIANTS = [(100, 0, 0, 5.0, False, False), (70, 0, 0, 0.0, True, False), (130, 0, 32, 0.0, False, False),
            (130, 0, 50, 0.0, False, False), (99, 0, 0, 0.0, False, True), (150, 20, 64, 30.0, True, True),
            (30, 0, 1, 0.0, True, False), (49, 0, 4096, 0.0, False, False)]  # fmt: skip


@pytest.mark.parametrize("case", VARIANTS, ids=str)
def test_attention_with_caps_sinks_and_chunks(case: tuple) -> None:
    sequence, window, chunk, soft_cap, with_sinks, with_slopes = case
    q, k, v = normal(2 * sequence, 4, 24), normal(2 * sequence, 2, 24, seed=1), normal(2 * sequence, 2, 16, seed=2)
    sinks = normal(4, seed=3) * 4 if with_sinks else None
    slopes = np.array([0.5, 0.25, 0.125, 0.0625], np.float32) if with_slopes else None
    options = {"chunk": chunk, "soft_cap": soft_cap, "sinks": sinks, "slopes": slopes}

    def run(threads: int) -> np.ndarray:
        out = np.full((2 * sequence, 4, 16), np.nan, np.float32)
        _kernels.attention(q, k, v, out, 0.4, sequence, window, threads, **options)
        return out

    expected = reference(q, k, v, 0.4, sequence, window, **options)
    np.testing.assert_allclose(on_every_level(run), expected, rtol=1e-5, atol=1e-5)


def test_keys_and_values_of_different_sizes() -> None:
    q, k, v = normal(60, 2, 192), normal(60, 1, 192, seed=1), normal(60, 1, 128, seed=2)

    def run(threads: int) -> np.ndarray:
        out = np.empty((60, 2, 128), np.float32)
        _kernels.attention(q, k, v, out, 0.07, 60, 0, threads)
        return out

    np.testing.assert_allclose(on_every_level(run), reference(q, k, v, 0.07, 60, 0), rtol=1e-5, atol=1e-5)


def test_a_sink_above_all_scores_leaves_nothing() -> None:
    x = normal(20, 2, 16)
    out, sinks = np.empty_like(x), np.array([1000, -1000], np.float32)
    _kernels.attention(x, x, x, out, 0.2, 20, sinks=sinks)
    plain = np.empty_like(x)
    _kernels.attention(x, x, x, plain, 0.2, 20)
    assert not out[:, 0].any()
    np.testing.assert_array_equal(out[:, 1], plain[:, 1])


def test_a_sequence_does_not_see_another() -> None:
    q, k, v = normal(60, 2, 16), normal(60, 2, 16, seed=1), normal(60, 2, 16, seed=2)
    both, alone = np.empty_like(q), np.empty((20, 2, 16), np.float32)
    _kernels.attention(q, k, v, both, 0.25, 20, 0, 2)
    for start in (0, 20, 40):
        rows = slice(start, start + 20)
        _kernels.attention(q[rows], k[rows], v[rows], alone, 0.25, 20, 0, 2)
        np.testing.assert_array_equal(alone, both[rows])


def test_what_does_not_fit() -> None:
    x, cos = np.zeros((6, 2, 8), np.float32), np.zeros((3, 4), np.float32)
    out, three = np.zeros_like(x), np.zeros((6, 3, 8), np.float32)
    cases = [
        (lambda: _kernels.rope(x, cos, cos, "neox", 4, 1), "6 rows are not whole sequences of 4"),
        (lambda: _kernels.rope(x, cos, cos, "neox", 6, 1), "cos has 3 positions, fewer than a sequence of 6"),
        (lambda: _kernels.rope(x, cos, cos, "gptj", 3, 1), 'mode must be "neox" or "norm", not "gptj"'),
        (lambda: _kernels.rope(x, cos, cos, "neox", 3, 1, offset=2), "cos must have at most 3 columns, not 4"),
        (lambda: _kernels.rope(x, cos, cos, "neox", 3, 1, offset=9), "offset must be 0 to 8, not 9"),
        (lambda: _kernels.attention(x, x, x, out, 1, 6, chunk=-1), "chunk must be 0 (none) or more, not -1"),
        (lambda: _kernels.attention(x, x, x, out, 1, 6, soft_cap=-1), "soft_cap must be 0 (none) or more, not -1"),
        (lambda: _kernels.attention(x, x, x, out, 1, 6, sinks=cos[0]), "sinks must have 2 in dimension 0, not 4"),
        (lambda: _kernels.attention(three, x, x, three.copy(), 1, 6), "q's 3 heads are not a whole number for each"),
        (lambda: _kernels.attention(x, x, x, x, 1, 6), "out and q must not overlap"),
        (lambda: _kernels.attention(x, x, x, out, 1, 6, -1), "window must be 0 (none) or more, not -1"),
        (lambda: tables(3, 8, 0.5), "base must be above 1 and below 1e30, not 0.5"),
        (lambda: tables(3, 7, 1e4), "dims must be even and at least 2, not 7"),
        (lambda: tables(3, 8, 1e4, ext_factor=1.0), "ext_factor needs an original_context"),
    ]  # fmt: skip
    for call, message in cases:
        with pytest.raises(ValueError, match=re.escape(message)):
            call()
