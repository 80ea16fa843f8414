"""The matrix product: both arithmetics bit by bit against exact models, on every level, for any threads and shape."""

import re
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from forward_helpers import every_level, normal
from quantmill import _kernels
from quantmill.gguf.types import TYPES

# (m, n, k) about a lane, a tile, a panel, a slice of k, a block of rows
SHAPES = [(33, 33, 513), (1, 1, 1), (4, 7, 5), (12, 32, 31), (13, 33, 32), (6, 31, 33), (25, 65, 64), (3, 100, 127),
          (7, 16, 129), (5, 15, 255), (2, 17, 257), (517, 9, 40), (2, 3, 0)]  # fmt: skip


def bfloat16(x: np.ndarray) -> np.ndarray:
    """Rounded to the nearest bfloat16, halves to even; finite values only."""
    bits = x.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)


def raw(weights: np.ndarray, type_: str) -> np.ndarray:
    """The bytes of float32 weights as F32, F16 or BF16."""
    if type_ == "BF16":
        return (bfloat16(weights).view(np.uint32) >> 16).astype(np.uint16).view(np.uint8).reshape(-1)
    return weights.astype({"F32": np.float32, "F16": np.float16}[type_]).view(np.uint8).reshape(-1)


def product(x: np.ndarray, weights: np.ndarray, type_: str, arithmetic: str, threads: int = 2) -> np.ndarray:
    panels = _kernels.pack(type_, raw(weights, type_), *weights.shape, arithmetic, threads)
    out = np.full((x.shape[0], weights.shape[0]), np.nan, np.float32)
    _kernels.matmul(x, panels, out, threads)
    return out


def at(level: str, run: Callable[[], np.ndarray]) -> np.ndarray:
    before = _kernels.isa()
    _kernels.set_isa(level)
    try:
        return run()
    finally:
        _kernels.set_isa(before)


def rounded(exact: Fraction) -> Fraction:
    """The nearest float32, halves to even, of a number within its range."""
    if exact == 0:
        return exact
    exponent = -126
    while abs(exact) >= Fraction(2) ** (exponent + 1):
        exponent += 1
    unit = Fraction(2) ** (exponent - 23)
    return round(exact / unit) * unit  # Fraction rounds halves to even


def flushed(exact: Fraction) -> Fraction:
    """The nearest of 24 bits, halves to even, or zero where that is no normal number."""
    if exact == 0:
        return exact
    exponent = 0
    while abs(exact) >= Fraction(2) ** (exponent + 1):
        exponent += 1
    while abs(exact) < Fraction(2) ** exponent:
        exponent -= 1
    unit = Fraction(2) ** (exponent - 23)
    nearest = round(exact / unit) * unit
    return nearest if abs(nearest) >= Fraction(2) ** -126 else Fraction(0)


def normal_part(x: np.ndarray) -> list[Fraction]:
    """The values, denormal ones as zeros."""
    return [Fraction(v) if abs(v) >= 2.0**-126 else Fraction(0) for v in x.tolist()]


def tiles(x: np.ndarray, w: np.ndarray, both: bool) -> float:
    """One output of bf16x2, by the definition in docs/forward.md; with w's low part if `both`."""
    size = -len(x) % 32
    x, w = np.pad(x, (0, size)), np.pad(w, (0, size))
    x_parts, w_parts = ((bfloat16(v), bfloat16(v - bfloat16(v))) for v in (x, w))
    pairs = [(x_parts[0], w_parts[0]), (x_parts[1], w_parts[0])] + ([(x_parts[0], w_parts[1])] if both else [])
    total = Fraction(0)
    for begin in range(0, len(x), 32):
        for a, b in pairs:
            left, right = normal_part(a[begin : begin + 32]), normal_part(b[begin : begin + 32])
            sums = [Fraction(0), Fraction(0)]
            for i in range(32):
                sums[i % 2] = flushed(left[i] * right[i] + sums[i % 2])
            total = flushed(total + flushed(sums[0] + sums[1]))
    return float(total)


def chain(x: np.ndarray, w: np.ndarray) -> float:
    """One chain of fma from zero in the order of k, in exact numbers."""
    total = Fraction(0)
    for a, b in zip(x.tolist(), w.tolist(), strict=True):
        total = rounded(Fraction(a) * Fraction(b) + total)
    return float(total)


@pytest.mark.parametrize("type_", ["F32", "F16", "BF16"])
def test_f32_is_a_chain_of_fma(type_: str) -> None:
    x, w = normal(3, 300), normal(5, 300, seed=1)
    x[1] *= 1e-22  # to denormal sums: this arithmetic keeps them
    w[2] *= np.float32(1e-22 if type_ == "F32" else 1)
    held = bfloat16(w) if type_ == "BF16" else w.astype(np.float16).astype(np.float32) if type_ == "F16" else w
    expected = np.array([[chain(a, b) for b in held] for a in x], np.float32)
    assert type_ != "F32" or 0 < abs(expected[1, 2]) < 2.0**-126
    with every_level() as levels:
        for level in levels:
            np.testing.assert_array_equal(product(x, w, type_, "f32"), expected, err_msg=level)


# Small enough that sums, products or parts become denormal, at each of which something is flushed.
SCALES = [1.0, 2.0**-63, 2.0**-66, 2.0**-70, 2.0**-120, 2.0**-128]


@pytest.mark.parametrize("type_", ["F32", "BF16"])
def test_bf16x2_is_what_tiles_do(type_: str) -> None:
    x = np.concatenate([normal(1, 100) * np.float32(scale) for scale in SCALES])
    w = np.concatenate([normal(1, 100, seed=1) * np.float32(scale) for scale in SCALES])
    held = bfloat16(w) if type_ == "BF16" else w
    expected = np.array([[tiles(a, b, type_ != "BF16") for b in held] for a in x], np.float32)
    assert (expected == 0).any()
    assert (np.abs(expected[expected != 0]).min() < 2.0**-120).any()
    for level in (*_kernels.forward_levels(), "tiles-model"):
        found = at(level, lambda: product(x, w, type_, "bf16x2"))
        np.testing.assert_array_equal(found, expected, err_msg=level)


@pytest.mark.parametrize(("low", "expected"), [(2.0**-153, 2.0**-126), (2.0**-151, 2.0**-126), (2.0**-150, 0.0)])
def test_too_small_is_judged_after_rounding(low: float, expected: float) -> None:
    """2^-126 - low is less than the least normal number, but where it rounds to that, it is kept."""
    x, w = np.zeros((1, 4), np.float32), np.zeros((1, 4), np.float32)
    x[0, [0, 2]] = 2.0**-63, low * 2.0**70
    w[0, [0, 2]] = 2.0**-63, -(2.0**-70)
    for level in (*_kernels.forward_levels(), "tiles-model"):
        assert at(level, lambda: product(x, w, "BF16", "bf16x2"))[0, 0] == expected, level


@pytest.mark.parametrize("arithmetic", ["f32", "bf16x2"])
@pytest.mark.parametrize("type_", ["F32", "F16", "BF16"])
def test_bits_depend_on_neither_level_nor_threads(type_: str, arithmetic: str) -> None:
    # f32: the worst of k roundings; bf16x2: what splitting leaves out of both, and their low parts' product
    for m, n, k in SHAPES:
        x, w = normal(m, k), normal(n, k, seed=1)
        held = bfloat16(w) if type_ == "BF16" else w.astype(np.float16).astype(np.float32) if type_ == "F16" else w
        first = product(x, w, type_, arithmetic)
        magnitude = np.abs(x).astype(np.float64) @ np.abs(held).T.astype(np.float64)
        error = np.abs(first - x.astype(np.float64) @ held.T.astype(np.float64))
        assert (error <= magnitude * (k * 2.0**-24 + (3 * 2.0**-18 if arithmetic == "bf16x2" else 0))).all(), (m, n, k)
        with every_level() as levels:
            for level in levels:
                for threads in (1, 2, 3):
                    again = product(x, w, type_, arithmetic, threads)
                    assert again.tobytes() == first.tobytes(), (level, threads, m, n, k)
        again = at("tiles-model", lambda x=x, w=w: product(x, w, type_, arithmetic))  # its panels, slices and edges
        assert again.tobytes() == first.tobytes(), (m, n, k)


@pytest.mark.parametrize("type_", sorted(TYPES.keys() & {*_kernels.quantize_types()} - {"F32", "F16", "BF16"}))
def test_quantized_weights_are_dequantized(type_: str) -> None:
    x, w = normal(5, 512), normal(40, 512, seed=1)
    src, held = np.empty(40 * TYPES[type_].row_bytes(512), np.uint8), np.empty_like(w)
    _kernels.quantize(type_, w, src, np.ones(512, np.float32))
    _kernels.dequantize(type_, src, held)
    for arithmetic in ("f32", "bf16x2"):
        out = np.empty((5, 40), np.float32)
        _kernels.matmul(x, _kernels.pack(type_, src, 40, 512, arithmetic, 2), out, 2)
        np.testing.assert_array_equal(out, product(x, held, "F32", arithmetic))


def test_any_range_of_rows_is_a_matrix() -> None:
    x, w = normal(7, 90), normal(100, 90, seed=1)
    for arithmetic in ("f32", "bf16x2"):
        whole = product(x, w, "F16", arithmetic)
        parts = [product(x, w[a:b], "F16", arithmetic) for a, b in ((0, 41), (41, 42), (42, 100))]
        np.testing.assert_array_equal(np.concatenate(parts, 1), whole)


def test_panels_say_what_they_are() -> None:
    w = normal(40, 50)
    panels = _kernels.pack("F16", raw(w, "F16"), 40, 50, "bf16x2", 1)
    assert (panels.rows, panels.cols, panels.arithmetic) == (40, 50, "bf16x2")
    assert panels.nbytes >= 40 * 50 * 4


BYTES = np.zeros(64, np.uint8)
MISTAKES = [
    (("F99", BYTES, 1, 16, "f32", 1), "no kernel dequantizes 'F99'"),
    (("F32", BYTES, 1, 15, "f32", 1), "src must have 60 bytes for 1 rows of 15 weights as F32, not 64"),
    (("F32", BYTES, 1, 16, "f64", 1), 'arithmetic must be "f32" or "bf16x2", not "f64"'),
    (("F32", BYTES, 1, 16, "f32", 0), "threads must be 1 to 1024, not 0"),
    (("F32", BYTES, -1, 16, "f32", 1), "rows and cols must be 0 to 2^30 - 1, not -1 and 16"),
    (("Q8_0", BYTES, 1, 16, "f32", 1), "rows of 16 weights are not made of whole Q8_0 blocks of 32"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=lambda value: value if isinstance(value, str) else "")
def test_what_cannot_be_packed(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        _kernels.pack(*arguments)


def test_what_cannot_be_multiplied() -> None:
    panels = _kernels.pack("F32", BYTES, 2, 8, "f32", 1)
    memory = np.zeros(64, np.float32)
    cases = [
        (np.zeros((3, 7), np.float32), np.zeros((3, 2), np.float32), "x must have 8 in dimension 1, not 7"),
        (np.zeros((3, 8), np.float32), np.zeros((3, 3), np.float32), "out must have 2 in dimension 1, not 3"),
        (np.zeros((3, 8)), np.zeros((3, 2), np.float32), "x must be an array of float32, not of format 'd'"),
        (memory[:24].reshape(3, 8), memory[20:26].reshape(3, 2), "out and x must not overlap"),
    ]
    for x, out, message in cases:
        with pytest.raises(ValueError, match=re.escape(message)):
            _kernels.matmul(x, panels, out, 1)
