"""The kernels against ggml itself, where blocks do not fill the lanes and on rows nobody thought of."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_checks import LANES, LEVELS, assert_as_ggml, assert_dequantized_as_ggml, quantize
from quantmill import _kernels
from quantmill.gguf.types import TYPES
from quantmill.reference.arithmetic import QuantArithmetic

READ = [name for name in _kernels.quantize_types() if name != "F32"]
ANY_IMPORTANCE = [name for name in READ if name[:3] not in ("IQ1", "IQ2")]  # the others: test_iq_kernels_2.py
WRITTEN = [name for name in READ if name[0] in "FBQ"]


@pytest.mark.parametrize("type_", ANY_IMPORTANCE)
def test_block_counts_around_the_lanes(type_: str) -> None:
    random = np.random.default_rng(7)
    block = max(TYPES[type_].block, 32)
    for lanes in {LANES[level] for level in LEVELS}:
        for count in (1, lanes - 1, lanes, lanes + 1):
            for rows, per_row in {(1, count), (count, 1)}:
                src = (random.standard_normal((rows, per_row * block)) * 0.02).astype(np.float32)
                importance = random.gamma(1, 1, per_row * block).astype(np.float32)
                assert_as_ggml(type_, src, None)
                assert_as_ggml(type_, src, importance)


@pytest.mark.parametrize("type_", ["F16", "BF16"])
@pytest.mark.parametrize("cols", [1, 3, 15, 17, 33])
def test_float_rows_of_any_length(type_: str, cols: int) -> None:
    src = np.random.default_rng(cols).standard_normal((2, cols)).astype(np.float32)
    assert_as_ggml(type_, src, None)


@pytest.mark.parametrize("type_", ["F16", "BF16"])
def test_floats_at_every_rounding_boundary(type_: str) -> None:
    """Every upper half of a float, NaN included, with lower halves at, beside and between the points of rounding."""
    high = np.arange(1 << 16, dtype=np.uint32)[:, None] << 16
    low = np.array([0, 1, 0x0FFF, 0x1000, 0x1001, 0x2FFF, 0x3000, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    assert_as_ggml(type_, (high | low).reshape(1, -1).view(np.float32), None)


finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
counts = st.floats(min_value=0, width=32, allow_infinity=False)


@pytest.mark.parametrize("type_", WRITTEN)
@settings(max_examples=20, deadline=None, derandomize=True, database=None)
@given(
    values=st.lists(finite, min_size=1, max_size=40),
    weights=st.none() | st.lists(counts, min_size=1, max_size=20),
    rows=st.integers(1, 3),
    blocks=st.integers(1, 2),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_rows(
    type_: str, values: list[float], weights: list[float] | None, rows: int, blocks: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    src = random.choice(np.array(values, np.float32), (rows, 256 * blocks))
    importance = None if weights is None else random.choice(np.array(weights, np.float32), 256 * blocks)
    assert_as_ggml(type_, src, importance)


def degenerate(case: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows of 512 weights, and an importance vector, of the sorts that reach the searches' early ends."""
    src = random.standard_normal((3, 512))
    importance = random.gamma(0.5, 1, 512)
    match case % 6:
        case 0:
            src *= 10.0 ** random.integers(-44, 38)
        case 1:
            src *= np.repeat(10.0 ** random.integers(-44, -30, (3, 16)), 32, axis=1)
        case 2:
            src[random.random(src.shape) < 0.9] = 0
        case 3:
            src = np.repeat(random.standard_normal((3, 32)), 16, axis=1)
        case 4:
            src = np.round(src * 2) / 4
        case 5:
            src = np.abs(src) + random.integers(0, 1000)
    match case % 5:
        case 0:
            importance[random.random(512) < 0.97] = 0
        case 1:
            importance *= 10.0 ** random.integers(-44, 30)
        case 2:
            importance = np.repeat((random.random(32) < 0.5).astype(float), 16)
        case 3:
            importance[:] = 0
    return np.clip(src, -3e38, 3e38).astype(np.float32), np.clip(importance, 0, 3e38).astype(np.float32)


@pytest.mark.parametrize("type_", WRITTEN)
def test_degenerate_rows(type_: str) -> None:
    random = np.random.default_rng(11)
    for case in range(60):
        src, importance = degenerate(case, random)
        assert_as_ggml(type_, src, importance)
        assert_as_ggml(type_, src, None)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("type_", READ)
def test_dequantize_any_bytes(type_: str, level: str) -> None:
    """Also what no quantizer writes: scales that are NaN or infinite, bytes that are no five trits; all of F16."""
    _kernels.set_isa(level)
    kind = TYPES[type_]
    blocks = 1 << 16 if kind.block == 1 else 4096
    src = np.random.default_rng(13).integers(0, 256, blocks * kind.size, np.uint8)
    if kind.block == 1:
        src = np.arange(1 << 16, dtype=np.uint16).view(np.uint8)
    assert_dequantized_as_ggml(type_, src, blocks)


def test_f32_is_a_copy() -> None:
    src = np.random.default_rng(17).integers(0, 2**32, (2, 33), np.uint32)
    packed = np.zeros(src.nbytes, np.uint8)
    _kernels.quantize("F32", src.view(np.float32), packed)
    assert packed.tobytes() == src.tobytes()
    back = np.zeros(src.shape, np.float32)
    _kernels.dequantize("F32", packed, back)
    assert back.tobytes() == src.tobytes()


@pytest.mark.parametrize("type_", ANY_IMPORTANCE)
def test_rows_may_be_quantized_in_any_portions(type_: str) -> None:
    random = np.random.default_rng(19)
    src, importance = random.standard_normal((37, 512)).astype(np.float32), random.gamma(1, 1, 512).astype(np.float32)
    importance[:96] = 0
    for arithmetic in QuantArithmetic:
        whole = quantize(type_, src, importance, arithmetic)
        parts = [quantize(type_, src[a:b], importance, arithmetic) for a, b in ((0, 1), (1, 18), (18, 37))]
        assert np.concatenate(parts).tobytes() == whole.tobytes()
        assert len(whole) == 37 * TYPES[type_].row_bytes(512)
