"""IQ2_XXS, IQ2_XS, IQ2_S, IQ1_S and IQ1_M: ggml's own bytes on any rows, and what is refused."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_checks import LANES, LEVELS, assert_as_ggml, quantize, rows_of, weights_of
from quantmill import _kernels
from quantmill.gguf.types import TYPES
from quantmill.reference.arithmetic import QuantArithmetic

WRITTEN = ["IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ1_S", "IQ1_M"]
# ggml quantizes these without an importance vector, too.
UNWEIGHTED = ["IQ2_S", "IQ1_M"]


@pytest.mark.parametrize("type_", WRITTEN)
def test_block_counts_around_the_lanes(type_: str) -> None:
    random = np.random.default_rng(7)
    for lanes in {LANES[level] for level in LEVELS}:
        for count in (1, lanes - 1, lanes, lanes + 1):
            for rows, per_row in {(1, count), (count, 1)}:
                src = (random.standard_normal((rows, per_row * 256)) * 0.02).astype(np.float32)
                assert_as_ggml(type_, src, random.gamma(1, 1, per_row * 256).astype(np.float32))


@pytest.mark.parametrize("type_", UNWEIGHTED)
def test_without_importance(type_: str) -> None:
    src = (np.random.default_rng(8).standard_normal((5, 1024)) * 0.02).astype(np.float32)
    src[1, :64], src[2] = 0, np.round(src[2] * 50) / 64
    assert_as_ggml(type_, src, None)


@pytest.mark.parametrize("type_", sorted(set(WRITTEN) - set(UNWEIGHTED)))
def test_importance_is_demanded(type_: str) -> None:
    src, out = np.zeros((1, 256), np.float32), np.zeros(TYPES[type_].size, np.uint8)
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - the whole message is compared
        _kernels.quantize(type_, src, out)
    assert str(raised.value) == f"{type_} needs an importance vector"


@pytest.mark.parametrize("type_", WRITTEN)
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(
    kind=st.sampled_from(["plain", "heavy", "ties", "constant", "sparse", "near zero", "one sign"]),
    weights=st.sampled_from(["plain", "equal", "zero groups", "mostly zero", "all zero", "minute", "large"]),
    rows=st.integers(1, 9),
    blocks=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_rows(type_: str, kind: str, weights: str, rows: int, blocks: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    assert_as_ggml(type_, rows_of(kind, random, rows, 256 * blocks), weights_of(weights, random, 256 * blocks))


@pytest.mark.parametrize("type_", WRITTEN)
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(
    values=st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=40),
    weights=st.lists(st.floats(0, 1e4, width=32), min_size=1, max_size=20),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_values(type_: str, values: list[float], weights: list[float], seed: int) -> None:
    random = np.random.default_rng(seed)
    src = random.choice(np.array(values, np.float32), (3, 512))
    assert_as_ggml(type_, src, random.choice(np.array(weights, np.float32), 512))


@pytest.mark.parametrize("type_", WRITTEN)
def test_not_a_number_raises_nothing(type_: str) -> None:
    """ggml stops on such rows; here the blocks beside them are as if they were not there."""
    random = np.random.default_rng(23)
    src = random.standard_normal((3, 768)).astype(np.float32)
    importance = random.gamma(1, 1, 768).astype(np.float32)
    clean = quantize(type_, src, importance).reshape(9, -1)
    src[0, 5], src[1, 300:310], src[2, 700] = np.nan, np.inf, -np.inf
    for level in LEVELS:
        _kernels.set_isa(level)
        broken = quantize(type_, src, importance).reshape(9, -1)
        for block in range(9):
            if block not in (0, 4, 8):
                assert broken[block].tobytes() == clean[block].tobytes()


# Recorded from b4867's ggml_quantize_chunk where it neither stops nor reads memory it never wrote.
OLDER_ROWS = {
    ("sparse", "plain", 1): {
        "IQ2_XXS": "6e0dcc3266484878",
        "IQ2_XS": "c1908d836df1f4af",
        "IQ2_S": "b21272bbfbd37b44",
        "IQ1_S": "022355ed7d86021a",
        "IQ1_M": "4a40aad321bf7da2",
    },
    ("one sign", "mostly zero", 1): {
        "IQ2_XXS": "6c2932ebac2cfa5a",
        "IQ2_XS": "870eb23df6692061",
        "IQ2_S": "3f1f5d35121469c1",
        "IQ1_S": "ac0a4c77527ecefc",
        "IQ1_M": "1df0cffc6ff24a1d",
    },
    ("near zero", "plain", 1): {
        "IQ2_XXS": "5a6a0ede9512f67c",
        "IQ2_XS": "682db4718eef06f6",
        "IQ2_S": "263d80c95b0936ba",
        "IQ1_S": "e8bfd2c7171054ed",
        "IQ1_M": "f7ba5c09421b30f6",
    },
    ("plain", "mostly zero", 1): {
        "IQ2_XXS": "a9f7dcdab09ca640",
        "IQ2_XS": "4e50b6c9fad5da29",
        "IQ2_S": "763ca0c687916db9",
        "IQ1_S": "3f3e63dfb4e48944",
    },
    ("heavy", "mostly zero", 1): {
        "IQ2_XXS": "0995f4c1b2db3d62",
        "IQ2_XS": "5498b24653414278",
        "IQ2_S": "2d8c3fb7051c1234",
        "IQ1_S": "a6ac4e92f42013c5",
    },
    ("plain", "zero groups", 4): {
        "IQ2_XXS": "c62d65872d34dec8",
        "IQ2_XS": "b3b389c9db323c20",
        "IQ2_S": "a452e5a435b3bf60",
        "IQ1_S": "2003beb59c921d30",
    },
    ("ties", "mostly zero", 1): {
        "IQ2_XXS": "06f4460ccd754e29",
        "IQ2_XS": "4b8496a7b249ac35",
        "IQ2_S": "e54399fd2a3f7b20",
        "IQ1_S": "625adce644904a99",
    },
    ("sparse", "mostly zero", 2): {
        "IQ2_XS": "863dcb4a6d98e657",
        "IQ2_S": "a56affc5d4a1b78a",
        "IQ1_S": "63394100752543eb",
    },
}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("type_", WRITTEN)
def test_the_oldest_on_rows_it_does_not_stop_at(type_: str, level: str) -> None:
    _kernels.set_isa(level)
    for (kind, weights, seed), digests in OLDER_ROWS.items():
        src, importance = older_rows(kind, weights, seed)
        if type_ in digests:
            found = hashlib.sha256(quantize(type_, src, importance, 1)).hexdigest()[:16]
            assert found == digests[type_], f"{kind}, {weights}, {seed}"


def older_rows(kind: str, weights: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose first block is ordinary, so that whatever the oldest carries on is defined."""
    random = np.random.default_rng(seed)
    src, importance = rows_of(kind, random, 8, 512), weights_of(weights, random, 512)
    src[0, :256] = random.standard_normal(256) * 0.02
    importance[:256] = 1
    return src, importance


CLEARS = (QuantArithmetic.B6673, QuantArithmetic.B8229)


@pytest.mark.parametrize("type_", ["IQ2_XS", "IQ2_S"])
def test_the_group_before_is_kept_until_groups_are_cleared(type_: str) -> None:
    """A group without importance repeats the points before it, even of the block before; cleared, it takes point 0."""
    src = np.abs(np.random.default_rng(29).standard_normal((1, 512))).astype(np.float32)
    importance = np.ones(512, np.float32)
    importance[256:272] = 0
    older, newer = (quantize(type_, src, importance, arithmetic).reshape(2, -1) for arithmetic in CLEARS)
    points = slice(2, 6) if type_ == "IQ2_XS" else slice(2, 4)
    last = slice(62, 66) if type_ == "IQ2_XS" else slice(32, 34)
    assert older[0].tobytes() == newer[0].tobytes()
    low = 0xFFFF if type_ == "IQ2_S" else 0x01FF01FF
    assert int.from_bytes(newer[1][points].tobytes(), "little") & low == 0
    assert (
        int.from_bytes(older[1][points].tobytes(), "little") & low
        == int.from_bytes(older[0][last].tobytes(), "little") & low
        != 0
    )
