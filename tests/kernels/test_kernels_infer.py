"""Products on quantized blocks: every type on every level against its dequantized weights."""

import re

import numpy as np
import pytest

from quantmill import _kernels
from quantmill.gguf.types import TYPES

FLOATS = ("F32", "F16", "BF16")
# Largest error of a result, relative to the length of its row of weights times that of its activations.
BOUND = {16: 6e-5, 8: 1.5e-2}


def quantized(type_: str, rows: int, cols: int) -> tuple[np.ndarray, np.ndarray]:
    """A matrix's bytes and what they stand for, float64."""
    values = np.random.default_rng([rows, cols]).standard_normal((rows, cols)).astype(np.float32)
    kind = TYPES[type_]
    data = np.empty(rows * kind.row_bytes(cols), np.uint8)
    _kernels.quantize(type_, values, data, np.ones(cols, np.float32))
    found = np.empty((rows, cols), np.float32)
    _kernels.dequantize(type_, data, found)
    return data, found.astype(np.float64)


def product(type_: str, data: np.ndarray, rows: int, x: np.ndarray, **options: int) -> np.ndarray:
    out = np.full((len(x), rows), np.nan, np.float32)
    _kernels.Matrix(type_, data, rows, x.shape[1], **options).multiply(x, out)
    return out


@pytest.fixture(params=_kernels.isa_levels())
def level(request: pytest.FixtureRequest) -> object:
    before = _kernels.isa()
    _kernels.set_isa(request.param)
    yield request.param
    _kernels.set_isa(before)


@pytest.mark.parametrize("type_", _kernels.infer_types())
def test_products_are_those_of_the_dequantized_weights(level: str, type_: str) -> None:
    for rows, cols in ((1, 256), (16, 512), (33, 768)):
        data, weights = quantized(type_, rows, cols)
        for count in (1, 2, 7):
            x = np.random.default_rng(count).standard_normal((count, cols)).astype(np.float32)
            x[-1] *= 1e-20  # scales are each token's own
            length = np.linalg.norm(x.astype(np.float64), axis=1)[:, None] * np.linalg.norm(weights, axis=1)[None]
            for bits in (16, 8):
                for repack in (True, False):
                    out = product(type_, data, rows, x, activation_bits=bits, repack=repack)
                    error = np.abs(out - x.astype(np.float64) @ weights.T) / length
                    assert error.max() < (2e-6 if type_ in FLOATS else BOUND[bits]), (rows, cols, count, bits, repack)


@pytest.mark.parametrize("type_", _kernels.infer_types())
def test_levels_threads_and_numbers_of_tokens_agree(type_: str) -> None:
    before, rows, cols = _kernels.isa(), 40, 512
    data, _ = quantized(type_, rows, cols)
    x = np.random.default_rng(3).standard_normal((9, cols)).astype(np.float32)
    try:
        results = {}
        for level in _kernels.isa_levels():
            _kernels.set_isa(level)
            whole = product(type_, data, rows, x, threads=3)
            single = np.concatenate([product(type_, data, rows, x[i : i + 1]) for i in range(len(x))])
            assert whole.tobytes() == single.tobytes(), level
            assert whole.tobytes() == product(type_, data, rows, x).tobytes(), level
            results[level] = whole
        reference = results.pop(level)
        scale = np.abs(reference).max()
        for level, result in results.items():
            assert np.abs(result - reference).max() < 4e-6 * scale, level
    finally:
        _kernels.set_isa(before)


def test_every_byte_of_every_block_is_understood() -> None:
    """Blocks of random bytes, as no quantizer writes them: all codes, all scales. Only finite ones are compared."""
    state = np.random.default_rng(11)
    for type_ in sorted(set(_kernels.infer_types()) - set(FLOATS)):
        kind, cols, rows = TYPES[type_], 256, 64
        data = state.integers(0, 256, rows * kind.row_bytes(cols), dtype=np.uint8)
        weights = np.empty((rows, cols), np.float32)
        _kernels.dequantize(type_, data, weights)
        x = state.standard_normal((2, cols)).astype(np.float32)
        with np.errstate(invalid="ignore", over="ignore"):
            good = np.isfinite(weights).all(1) & (np.abs(weights).max(1) < 1e30)
        assert good.any(), type_
        exact = weights[good].astype(np.float64)
        length = np.linalg.norm(x.astype(np.float64), axis=1)[:, None] * np.linalg.norm(exact, axis=1)[None] + 1e-300
        for repack in (True, False):
            out = product(type_, data, rows, x, repack=repack)[:, good]
            assert (np.abs(out - x.astype(np.float64) @ exact.T) / length).max() < 6e-5, (type_, repack)


def test_a_repacked_matrix_is_hardly_larger_than_its_blocks() -> None:
    for type_ in ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "IQ4_NL", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS", "F16"):
        data, _ = quantized(type_, 64, 1024)
        assert _kernels.Matrix(type_, data, 64, 1024).nbytes <= 1.06 * len(data), type_


def test_zeros_and_extremes() -> None:
    data, _ = quantized("Q8_0", 4, 64)
    assert not product("Q8_0", data, 4, np.zeros((3, 64), np.float32)).any()
    blocks = data.reshape(-1, 34)
    blocks[:, 2:] = 128  # -128, which no quantizer writes
    x = np.full((2, 64), -1, np.float32)
    before = _kernels.isa()
    for level in _kernels.isa_levels():
        _kernels.set_isa(level)
        for repack in (True, False):
            out = product("Q8_0", data, 4, x, repack=repack)
            scales = blocks[:, :2].copy().view(np.float16).astype(np.float64).reshape(4, 2).sum(1)
            assert np.allclose(out, 128 * 32 * scales, rtol=1e-4), (level, repack)
    _kernels.set_isa(before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("Q4_K", 4, 100),
            "a matrix of 4 rows of 100 weights cannot be multiplied as Q4_K, whose rows are made of whole 256 weights",
        ),
        (
            ("F32", 4, 40),
            "a matrix of 4 rows of 40 weights cannot be multiplied as F32, whose rows are made of whole 32 weights",
        ),
        (("Q8_0", 5, 64), "data must have the bytes of 5 rows of 64 weights as Q8_0, not 272"),
        (("Q9", 4, 64), "no kernel multiplies weights of type 'Q9'"),
        (
            ("Q8_0", 1 << 60, 1 << 40),
            f"data must have the bytes of {1 << 60} rows of {1 << 40} weights as Q8_0, not 272",
        ),
    ],
)
def test_matrices_that_do_not_fit(arguments: tuple[str, int, int], message: str) -> None:
    type_, rows, cols = arguments
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        _kernels.Matrix(type_, np.zeros(272, np.uint8), rows, cols)


def test_calls_that_do_not_fit() -> None:
    data, _ = quantized("Q8_0", 4, 64)
    matrix = _kernels.Matrix("Q8_0", data, 4, 64)
    cases = {
        "x must have 64 columns, not 32": ((1, 32), (1, 4)),
        "out must have 2 rows of 4": ((2, 64), (2, 5)),
    }
    for message, (x, out) in cases.items():
        with pytest.raises(ValueError, match=message):
            matrix.multiply(np.zeros(x, np.float32), np.zeros(out, np.float32))
    with pytest.raises(ValueError, match="activation_bits must be 8 or 16, not 12"):
        _kernels.Matrix("Q8_0", data, 4, 64, activation_bits=12)


def test_reading_memory_is_measured() -> None:
    assert _kernels.read_rate(2**22, 2) > 0
    with pytest.raises(ValueError, match="bytes must be from 1048576 to 2\\^40, not 5"):
        _kernels.read_rate(5, 1)
