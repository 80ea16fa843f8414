"""Rows and blocks of any bits at the kernels themselves, at every level that runs here.

Finite rows must give the same bytes at every level, unless these hold an infinite scale, for which a file is refused.
What is not finite, and negative importance, never reach a kernel in use, but may not lead out of bounds either.
"""

import random
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quantmill import _kernels
from quantmill.gguf.scales import first_broken
from quantmill.gguf.types import TYPES
from quantmill.reference.arithmetic import QuantArithmetic

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
WRITABLE = _kernels.quantize_types()
NEEDY = frozenset({"IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ1_S", "IQ1_M"})
LEVELS = _kernels.isa_levels()
READABLE = ["F32", "F16", "BF16", *(name for name in WRITABLE if name not in ("F16", "BF16"))]
MAX = np.float32(np.finfo(np.float32).max)
TINY = np.float32(1e-45)


def values(rng: random.Random, count: int, finite: bool) -> Floats:
    """Weights of one of many kinds, or of several kinds by turns."""
    source = np.random.default_rng(rng.getrandbits(64))
    normal = source.standard_normal(count, np.float32)
    with np.errstate(all="ignore"):
        match rng.randrange(12):
            case 0:
                found = normal
            case 1:
                found = normal * np.float32(10.0 ** rng.uniform(-44, 37))
            case 2:
                found = np.zeros(count, np.float32)
            case 3:
                found = np.full(count, rng.choice([1, -1, MAX, -MAX, TINY, -TINY, 0.0, -0.0, 65504, 1e-8]), np.float32)
            case 4:
                found = np.asarray(source.choice(np.array([MAX, -MAX, 0, TINY, 1], np.float32), count))
            case 5:
                found = np.asarray(source.integers(-9, 9, count).astype(np.float32))
            case 6:
                found = normal * np.exp2(source.uniform(-149, 127, count)).astype(np.float32)
            case 7:
                found = np.where(source.random(count) < 0.05, normal * np.float32(1e30), normal)
            case 8:
                found = np.where(source.random(count) < 0.9, np.float32(0), normal)
            case 9:
                found = np.repeat(normal[: -(-count // 32)], 32)[:count]
            case 10:
                found = normal * np.float32(1e-40)
            case _:
                found = source.integers(0, 2**32, count, np.uint32).view(np.float32)
    found = np.clip(np.nan_to_num(found.astype(np.float32), nan=0.5, posinf=MAX, neginf=-MAX), -MAX, MAX)
    if not finite:
        broken = source.choice(np.array([np.nan, np.inf, -np.inf], np.float32), count)
        found = np.where(source.random(count) < rng.choice([0.01, 0.3, 1]), broken, found)
    return np.ascontiguousarray(found, np.float32)


def quantizing(rng: random.Random) -> str:
    name = rng.choice(WRITABLE)
    type_ = TYPES[name]
    rows, columns = rng.choice([1, 1, 2, 3, 5, 17]), type_.block * rng.choice([1, 1, 2, 3, 5])
    finite = rng.random() < 0.8
    weights = np.concatenate([values(rng, columns, finite) for _ in range(rows)]).reshape(rows, columns)
    importance = None
    if name in NEEDY or rng.random() < 0.7:
        importance = values(rng, columns, rng.random() < 0.95)
        if rng.random() < 0.9:
            importance = np.abs(importance)
    arithmetic = rng.choice(list(QuantArithmetic))
    usual = finite and (importance is None or bool((np.isfinite(importance) & (importance >= 0)).all()))
    made = []
    for level in LEVELS:
        _kernels.set_isa(level)
        out = np.full(rows * type_.row_bytes(columns), 0xA5, np.uint8)
        _kernels.quantize(name, weights, out, importance, arithmetic)
        sure = (
            usual
            and ordinary(weights, importance)
            and not (arithmetic < QuantArithmetic.B8229 and name in ("IQ1_S", "IQ1_M"))
        )
        in_tiles(rng, name, weights, out if sure else None, importance, arithmetic)
        back = np.empty((rows, columns), np.float32)
        _kernels.dequantize(name, out, back)
        made.append(out.tobytes())
    differ = usual and any(data != made[0] for data in made)
    if differ and all(first_broken(type_, np.frombuffer(data, np.uint8)) is None for data in made):
        raise AssertionError(f"{name}: the levels differ")
    return "quantized"


def ordinary(weights: Floats, importance: Floats | None) -> bool:
    """Whether no sum over the weights overflows or vanishes; where one does, the reference goes on with what an earlier
    block of the same call left behind, and so do the kernels."""
    if np.abs(weights).max() > 1e12:
        return False
    return importance is None or bool((importance > 1e-30).all() and importance.max() < 1e12)


def in_tiles(
    rng: random.Random, name: str, weights: Floats, out: Bytes | None, importance: Floats | None, arithmetic: int
) -> None:
    """The same a few rows at a time; `out` is what all of them at once gave, None where that may be anything else."""
    rows, columns = weights.shape
    found = np.full(rows * TYPES[name].row_bytes(columns), 0x5A, np.uint8)
    tile = np.empty((rng.choice([1, 2, 16]), columns), np.float32)
    finite = _kernels.quantize_stored(
        "F32", weights.view(np.uint8).reshape(-1), name, found, tile, importance, arithmetic
    )
    if finite != bool(np.isfinite(weights).all()):
        raise AssertionError(f"{name}: whether its weights are finite is told wrongly")
    if out is not None and found.tobytes() != out.tobytes():
        raise AssertionError(f"{name}: rows differ when they are quantized a few at a time")


def dequantizing(rng: random.Random) -> str:
    name = rng.choice(READABLE)
    type_ = TYPES[name]
    rows, columns = rng.choice([1, 2, 3, 9]), type_.block * rng.choice([1, 2, 3])
    data = np.frombuffer(rng.randbytes(rows * type_.row_bytes(columns)), np.uint8).copy()
    made = []
    for level in LEVELS:
        _kernels.set_isa(level)
        out = np.empty((rows, columns), np.float32)
        _kernels.dequantize(name, data, out)
        made.append(np.where(np.isnan(out), np.float32(0.25), out).tobytes())
    if any(data != made[0] for data in made):
        raise AssertionError(f"{name}: the levels differ")
    return "dequantized"


def case(seed: int, _folder: Path) -> str:
    """One call, chosen by the seed."""
    rng = random.Random(f"kernels {seed}")
    try:
        return quantizing(rng) if rng.random() < 0.7 else dequantizing(rng)
    finally:
        _kernels.set_isa(LEVELS[-1])
