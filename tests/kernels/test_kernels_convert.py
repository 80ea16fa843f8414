"""Rows from one type to another through a tile, against the two kernels that it runs."""

import re
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from quantmill import _kernels
from quantmill.gguf.types import TYPES
from quantmill.reference.arithmetic import QuantArithmetic

COLUMNS, ROWS = 512, 37
LEVELS = _kernels.isa_levels()


@pytest.fixture(autouse=True)
def _usual_level() -> Iterator[None]:
    level = _kernels.isa()
    yield
    _kernels.set_isa(level)


def stored(type_: str) -> np.ndarray:
    """Rows of a type, one a row of bytes."""
    weights = np.random.default_rng(5).standard_normal((ROWS, COLUMNS)).astype(np.float32)
    out = np.empty(ROWS * TYPES[type_].row_bytes(COLUMNS), np.uint8)
    _kernels.quantize(type_, weights, out)
    return out.reshape(ROWS, -1)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("source", ["F32", "F16", "BF16", "Q8_0"])
@pytest.mark.parametrize("tile_rows", [1, 16, 64])
def test_bytes_are_those_of_the_two_kernels(level: str, source: str, tile_rows: int) -> None:
    _kernels.set_isa(level)
    src = stored(source)
    importance = np.random.default_rng(6).gamma(1, 1, COLUMNS).astype(np.float32)
    weights = np.empty((ROWS, COLUMNS), np.float32)
    _kernels.dequantize(source, src.reshape(-1), weights)
    for type_ in _kernels.quantize_types():
        expected = np.empty(ROWS * TYPES[type_].row_bytes(COLUMNS), np.uint8)
        _kernels.quantize(type_, weights, expected, importance, QuantArithmetic.B8356)
        found, tile = np.empty_like(expected), np.full((tile_rows, COLUMNS), np.nan, np.float32)
        given = (source, src.reshape(-1), type_, found, tile, importance, QuantArithmetic.B8356)
        assert _kernels.quantize_stored(*given)
        assert found.tobytes() == expected.tobytes(), type_


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_not_finite_is_seen_wherever_it_is(level: str, bad: float) -> None:
    _kernels.set_isa(level)
    for columns in (1, 15, 16, 17, 32, 47):
        weights = np.full((3, columns), np.finfo(np.float32).max, np.float32)
        out, tile = np.empty(weights.nbytes, np.uint8), np.empty((2, columns), np.float32)
        assert _kernels.quantize_stored("F32", weights.view(np.uint8).reshape(-1), "F32", out, tile)
        for at in range(weights.size):
            broken = weights.copy()
            broken.flat[at] = bad
            assert not _kernels.quantize_stored("F32", broken.view(np.uint8).reshape(-1), "F32", out, tile), (
                columns,
                at,
            )


def test_no_rows_are_converted_to_none() -> None:
    empty, tile = np.empty(0, np.uint8), np.empty((1, 32), np.float32)
    assert _kernels.quantize_stored("F16", empty, "Q8_0", empty.copy(), tile)


SRC, DST, TILE = np.zeros(2 * 64 * 2, np.uint8), np.zeros(2 * 2 * 34, np.uint8), np.zeros((1, 64), np.float32)
SHARED = np.zeros(4 * 256, np.uint8)

REFUSED: list[tuple[str, Callable[[], object], str]] = [
    ("source", lambda: _kernels.quantize_stored("I8", SRC, "Q8_0", DST, TILE), "no kernel dequantizes 'I8'"),
    ("type", lambda: _kernels.quantize_stored("F16", SRC, "Q9_0", DST, TILE), "no kernel quantizes to 'Q9_0'"),
    (
        "arithmetic",
        lambda: _kernels.quantize_stored("F16", SRC, "Q8_0", DST, TILE, None, 0),
        "arithmetic must be 1 to 6, not 0",
    ),
    (
        "src-size",
        lambda: _kernels.quantize_stored("F16", SRC[1:], "Q8_0", DST, TILE),
        "src must have 128 bytes for 1 rows of 64 weights as F16, not 255",
    ),
    (
        "dst-size",
        lambda: _kernels.quantize_stored("F16", SRC, "Q8_0", DST[1:], TILE),
        "dst must have 136 bytes for 2 rows of 64 weights as Q8_0, not 135",
    ),
    (
        "columns",
        lambda: _kernels.quantize_stored("F16", SRC, "Q4_K", DST, TILE),
        "rows of 64 weights are not made of whole Q4_K blocks of 256",
    ),
    ("no-tile", lambda: _kernels.quantize_stored("F16", SRC, "Q8_0", DST, TILE[:0]), "tile must have rows and columns"),
    (
        "flat-tile",
        lambda: _kernels.quantize_stored("F16", SRC, "Q8_0", DST, TILE[0]),
        "tile must have 2 dimensions, not 1",
    ),
    (
        "no-columns",
        lambda: _kernels.quantize_stored("F16", SRC, "Q8_0", DST, TILE[:, :0].copy()),
        "tile must have rows and columns",
    ),
    (
        "importance",
        lambda: _kernels.quantize_stored("F16", SRC, "Q8_0", DST, TILE, np.zeros(63, np.float32)),
        "importance must have one value for each of the 64 columns, not 63",
    ),
    (
        "needs-importance",
        lambda: _kernels.quantize_stored("F16", SHARED[:512], "IQ1_S", DST[:50], np.zeros((1, 256), np.float32)),
        "IQ1_S needs an importance vector",
    ),
    (
        "overlap",
        lambda: _kernels.quantize_stored("F16", SHARED[:128], "Q8_0", SHARED[100:168], TILE),
        "src and dst must not overlap",
    ),
    (
        "tile-src",
        lambda: _kernels.quantize_stored(
            "F16", SHARED[:128], "Q8_0", DST[:68], SHARED[:256].view(np.float32).reshape(1, 64)
        ),
        "tile must not overlap another array",
    ),
    (
        "tile-dst",
        lambda: _kernels.quantize_stored(
            "F16", SRC[:128], "Q8_0", SHARED[:68], SHARED[:256].view(np.float32).reshape(1, 64)
        ),
        "tile must not overlap another array",
    ),
    (
        "tile-importance",
        lambda: _kernels.quantize_stored("F16", SRC[:128], "Q8_0", DST[:68], TILE, TILE[0]),
        "tile must not overlap another array",
    ),
]


@pytest.mark.parametrize(("call", "message"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_does_not_fit_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()
