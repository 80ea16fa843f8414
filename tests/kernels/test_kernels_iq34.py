"""IQ3, IQ4, TQ1_0, TQ2_0, MXFP4, NVFP4, Q1_0, Q2_0: ggml's own bytes on any rows, and what is refused."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_checks import assert_as_ggml, quantize, rows_of, weights_of
from quantmill import _kernels
from quantmill.gguf.types import TYPES

GRIDS = ["IQ3_XXS", "IQ3_S"]
UNWEIGHTED = ["TQ1_0", "TQ2_0", "MXFP4", "NVFP4", "Q1_0", "Q2_0"]
WRITTEN = ["IQ4_NL", "IQ4_XS", *GRIDS, *UNWEIGHTED]


@pytest.mark.parametrize("type_", WRITTEN)
@settings(max_examples=800, deadline=None, derandomize=True, database=None)
@given(
    kind=st.sampled_from(
        ["plain", "heavy", "ties", "cells' borders", "constant", "sparse", "near zero", "one sign"],
    ),
    weights=st.sampled_from(
        ["plain", "none", "equal", "zero groups", "mostly zero", "all zero", "minute", "large"],
    ),
    rows=st.integers(1, 9),
    blocks=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_rows(type_: str, kind: str, weights: str, rows: int, blocks: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    assert_as_ggml(type_, rows_of(kind, random, rows, 256 * blocks), weights_of(weights, random, 256 * blocks))


# ggml itself stops where the errors of all of a grid's neighbours overflow.
moderate = st.floats(-(2.0**30), 2.0**30, width=32)
finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize("type_", WRITTEN)
@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(
    data=st.data(),
    weights=st.none() | st.lists(st.floats(0, 2.0**20, width=32), min_size=1, max_size=20),
    rows=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_values(type_: str, data: st.DataObject, weights: list[float] | None, rows: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    values = data.draw(st.lists(moderate if type_ in GRIDS else finite, min_size=1, max_size=40))
    src = random.choice(np.array(values, np.float32), (rows, 512))
    importance = None if weights is None else random.choice(np.array(weights, np.float32), 512)
    assert_as_ggml(type_, src, importance)


@pytest.mark.parametrize("type_", UNWEIGHTED)
def test_importance_changes_nothing(type_: str) -> None:
    random = np.random.default_rng(3)
    src = random.standard_normal((3, 512)).astype(np.float32)
    weighted = quantize(type_, src, random.gamma(1, 1, 512).astype(np.float32))
    assert weighted.tobytes() == quantize(type_, src, None).tobytes()


def test_mxfp4_exponents_beside_every_power_of_two() -> None:
    """The exponent is that of a rounded logarithm, which reaches a power of two a little before the weight does."""
    largest = [float(np.ldexp(1 - m * 2.0**-24, k)) for k in range(-147, 129) for m in range(1, 97)]
    src = np.zeros((1, 32 * len(largest)), np.float32)
    src[0, ::32] = largest
    src[0, 1::32] = -src[0, ::32] / 3
    assert_as_ggml("MXFP4", src, None)


@pytest.mark.parametrize("type_", ["IQ4_NL", "IQ4_XS"])
def test_iq4_between_its_values(type_: str) -> None:
    """Weights at, just below and just above the middle of two values, where all candidates but one round elsewhere."""
    values = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32)
    middles = (values[1:] + values[:-1]) / 2
    src = np.zeros((48, 256), np.float32)
    for row in range(48):
        steps = np.resize(np.repeat(middles, 2), 256).astype(np.float32)
        for _ in range(row % 3):
            steps = np.nextafter(steps, np.float32(math.inf if row % 2 else -math.inf))
        src[row] = np.roll(steps, row) * np.float32(2.0 ** (row % 5 - 2))
        src[row, ::32] = (-127 - row % 8) * np.float32(2.0 ** (row % 5 - 2))
    assert_as_ggml(type_, src, None)
    assert_as_ggml(type_, src, np.ones(256, np.float32))


@pytest.mark.parametrize("type_", WRITTEN)
def test_refused_with_one_sentence(type_: str) -> None:
    kind = TYPES[type_]
    cols = kind.block + 16
    src, out = np.zeros((1, cols), np.float32), np.zeros(kind.size, np.uint8)
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - the whole message is compared
        _kernels.quantize(type_, src, out)
    assert str(raised.value) == f"rows of {cols} weights are not made of whole {type_} blocks of {kind.block}"
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - the whole message is compared
        _kernels.quantize(type_, src[:, : kind.block].copy(), out[1:])
    assert str(raised.value) == (
        f"dst must have {kind.size} bytes for 1 rows of {kind.block} weights as {type_}, not {kind.size - 1}"
    )
