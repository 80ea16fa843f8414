"""What rounding allows: no honest block is refused, whatever weights, importance and arithmetic it was made with."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from quantmill import _kernels
from quantmill.audit.rounding import TINY, UNGUIDED, bounds
from quantmill.audit.ways import kind
from quantmill.gguf.scales import first_broken
from quantmill.gguf.types import TYPES, Type
from quantmill.reference.spans import offered

Array = np.ndarray[Any, Any]
NAMES = _kernels.quantize_types()
GUIDED_ONLY = ("IQ2_XXS", "IQ2_XS", "IQ1_S")


def weights(rng: np.random.Generator, rows: int, columns: int) -> Array:
    """Of many kinds: normal, heavy tails, outliers, shifted, whole numbers, constant, zeros, subnormal, bf16."""
    x = rng.standard_normal((rows, columns))
    match rng.integers(0, 9):
        case 1:
            x = rng.laplace(size=x.shape)
        case 2:
            x = rng.standard_t(2, size=x.shape)
        case 3:
            x[:, :: int(rng.integers(2, 9))] = 0
        case 4:
            x[rng.integers(0, rows)] = 0
        case 5:
            x = np.where(rng.random(x.shape) < 0.02, x * 50, x)
        case 6:
            x = x + rng.normal() * 3
        case 7:
            x = np.round(x)
        case 8:
            x = np.repeat(x[:, :1], columns, axis=1)
    x *= 10.0 ** (rng.uniform(-4, 1) if rng.random() < 0.7 else rng.uniform(-45, 2))
    found = x.astype(np.float32)
    if rng.random() < 0.3:
        found[:, :32] = 0
    if rng.random() < 0.2:
        found[0] = rng.normal()
    if rng.random() < 0.6:
        found = (found.view(np.uint32) & 0xFFFF0000).view(np.float32)
    return found


def importances(rng: np.random.Generator, columns: int) -> Array | None:
    """None, alike, of light and of heavy tails, with columns or halves of zero."""
    found: Array | None = None
    match rng.integers(0, 7):
        case 1:
            found = np.ones(columns)
        case 2:
            found = rng.exponential(size=columns)
        case 3:
            found = rng.lognormal(0, 2, columns)
        case 4:
            found = rng.lognormal(0, 5, columns)
        case 5:
            found = np.where(rng.random(columns) < 0.3, 0, rng.exponential(size=columns))
        case 6:
            found = np.where(np.arange(columns) < columns // 2, 0, rng.exponential(size=columns))
    return None if found is None else (found * 10.0 ** rng.uniform(-8, 4)).astype(np.float32)


def quantized(type_: Type, x: Array, importance: Array | None, arithmetic: int) -> Array:
    found = np.empty(x.size // type_.block * type_.size, np.uint8)
    _kernels.quantize(type_.name, x, found, importance, arithmetic)
    return found.reshape(-1, type_.size)


def test_no_honest_tensor_is_changed() -> None:
    """2,000 tensors: of all types, by each of the six arithmetics, held with the importance known and unknown."""
    seen: Counter[str] = Counter()
    number = 0
    while sum(seen.values()) < 2000:
        rng = np.random.default_rng([11, number])
        type_ = TYPES[NAMES[number % len(NAMES)]]
        arithmetic = number // len(NAMES) % 6 + 1
        number += 1
        columns = type_.block * int(rng.integers(1, 7)) if type_.block > 1 else int(rng.integers(1, 700))
        x, importance = weights(rng, int(rng.integers(1, 12)), columns), importances(rng, columns)
        if importance is None and type_.name in GUIDED_ONLY:
            importance = np.ones(columns, np.float32)
        blocks = quantized(type_, x, importance, arithmetic)
        if first_broken(type_, blocks.reshape(-1)):
            continue  # what the quantizer refuses to write
        seen[type_.name] += 1
        base = x.reshape(-1, type_.block)
        by_block = None if importance is None else np.broadcast_to(importance, x.shape).reshape(base.shape)
        known = bounds(type_, blocks, base, by_block, maybe=False)
        unknown = bounds(type_, blocks, base, None, maybe=importance is not None)
        for held in (known, unknown):
            assert not held.outside.any(), (number - 1, type_.name, arithmetic)
            if importance is None or importance.min() > TINY * 1e3:
                assert not held.untold.any(), (number - 1, type_.name, arithmetic)
    assert set(seen) == set(NAMES)


@pytest.mark.parametrize("name", [name for name in NAMES if TYPES[name].block > 1])
def test_blocks_of_other_weights_are_outside(name: str) -> None:
    type_, rng = TYPES[name], np.random.default_rng(1)
    x, other = (rng.standard_normal((32, 1024)).astype(np.float32) * 0.02 for _ in range(2))
    importance = rng.lognormal(0, 1, 1024).astype(np.float32)
    held = bounds(type_, quantized(type_, other, importance, 6), x.reshape(-1, type_.block), None, maybe=True)
    assert held.outside.any(axis=1).mean() >= (0 if name.startswith("IQ1") else 0.9)


@pytest.mark.parametrize("name", [name for name in NAMES if TYPES[name].block > 1])
def test_zeros_are_outside_where_an_importance_does_not_explain_them(name: str) -> None:
    type_, rng = TYPES[name], np.random.default_rng(2)
    x = rng.standard_normal((4, 1024)).astype(np.float32) * 0.02
    base, blocks = x.reshape(-1, type_.block), quantized(type_, 0 * x, np.ones(1024, np.float32), 6)
    plain = bounds(type_, blocks, base, None, maybe=False)
    assert plain.outside.any(axis=1).all()
    maybe = bounds(type_, blocks, base, None, maybe=True)
    assert maybe.untold.all() if name not in UNGUIDED else maybe.outside.any(axis=1).all()
    zero = bounds(type_, blocks, base, np.zeros_like(base), maybe=False)
    assert not zero.outside.any() or name in UNGUIDED


def test_arithmetics_of_one_kind_write_the_same() -> None:
    """Which of the six arithmetics write a type alike, over weights and importances of all kinds."""
    by_number = {int(reference.arithmetic): reference for reference in offered()}
    for number in range(600):
        rng = np.random.default_rng([12, number])
        type_ = TYPES[NAMES[number % len(NAMES)]]
        columns = type_.block * int(rng.integers(1, 5))
        x, importance = weights(rng, int(rng.integers(1, 9)), columns), importances(rng, columns)
        if importance is None and type_.name in GUIDED_ONLY:
            importance = np.ones(columns, np.float32)
        written: dict[int, Array] = {}
        for arithmetic, reference in by_number.items():
            found = quantized(type_, x, importance, arithmetic)
            first = written.setdefault(kind(type_, reference), found)
            assert np.array_equal(first, found), (type_.name, arithmetic)
