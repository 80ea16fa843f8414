"""Whether blocks can be a rounding of a base: no weight further from it than the block's own step allows.

What is allowed was derived from the ends of ggml's quantizers (ggml-quants.c), by how a type chooses its levels:

- by the stored steps (K-quants, Q8_0, IQ4, FP4, ternary): each level is the nearest to the base's weight. At either end
  of the levels the base may lie further out, since a search may cut what matters little.
- by a search (Q4_0, Q5_0, Q4_1, Q5_1): the levels are those of one step, and one offset, whichever; the step stored is
  a mean of the ratios.
- points of a grid (IQ1, IQ2, IQ3): signs are the base's, but for one of eight where their number must be even. No
  weight is beyond the grid's largest level of the block's largest weight. Which point was taken depends on the
  importance, in ways that leave no closer bound.

A group that is written as one value must hardly vary in the base. Where an importance of zero may be why it does not
matter, that cannot be told. The proofs and the few blocks that are passed over are in docs/audit.md.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantmill import _kernels
from quantmill.audit.block_scales import FP4, IQ4, STEPS, Bytes, Floats, Steps, half_slack
from quantmill.gguf.types import Type

Flags = NDArray[np.bool_]

TINY = 1e-18  # an importance below it counts as none: quant/unweighed.py
SANE = 1e5  # times the least importance of a group: beyond it a fit of two numbers has no digit left in float32
SHARE = 0.25  # of the largest range of a block that a group with one value may have
_OFF = 1e-3  # of a step: what float32 loses on the way to a level

_INTEGERS = {
    "Q8_0": (-127, 127), "Q2_K": (0, 3), "Q3_K": (-4, 3), "Q4_K": (0, 15), "Q5_K": (0, 31), "Q6_K": (-32, 31),
    "Q4_0": (-8, 7), "Q5_0": (-16, 15), "Q4_1": (0, 15), "Q5_1": (0, 31), "Q2_0": (-1, 1), "TQ1_0": (-1, 1),
    "TQ2_0": (-1, 1),
}  # fmt: skip
_LEVELS: dict[str, Floats] = {
    **{name: np.arange(low, high + 1, dtype=np.float64) for name, (low, high) in _INTEGERS.items()},
    **dict.fromkeys(("IQ4_NL", "IQ4_XS"), np.array(IQ4, np.float64)),
    **dict.fromkeys(("MXFP4", "NVFP4"), np.array(FP4, np.float64)),
}
# How far beyond its last level the base may be: nothing more than a rounding, or what the scale was rounded by.
_BEYOND = {"Q8_0": 0.5, "Q2_0": 0.5, "TQ1_0": 0.5, "TQ2_0": 0.5, "MXFP4": 4.0, "NVFP4": 6.1}
_MULTIPLES = {"Q2_K": 15, "Q3_K": 32, "Q4_K": 63, "Q5_K": 63, "Q6_K": 128, "IQ4_XS": 32}
_SEARCHED = ("Q4_0", "Q5_0")
_FITTED = ("Q4_1", "Q5_1")
# Grids: wrong signs that eight weights may have, weights whose signs turn together, largest level in block maxima.
_GRIDS = {
    "IQ2_XXS": (1, 32, 6.0), "IQ2_XS": (1, 16, 6.0), "IQ2_S": (0, 16, 6.0), "IQ3_XXS": (1, 32, 17.0),
    "IQ3_S": (0, 32, 17.0), "IQ1_S": (8, 32, 12.0), "IQ1_M": (8, 16, 160.0),
}  # fmt: skip
_GRID_FLOOR = 1e-4  # magnitudes whose scale is no fp16
_FLOATS = {"F32": (0.0, 0.0), "F16": (2.0**-10, 2.0**-24), "BF16": (2.0**-8, 1.2e-38)}

# Types in which an importance vector changes nothing.
UNGUIDED = frozenset({*_FLOATS, "Q8_0", "MXFP4", "NVFP4", "Q1_0", "Q2_0", "TQ1_0", "TQ2_0"})
TYPES_BOUNDED = frozenset({*_LEVELS, *_GRIDS, *_FLOATS, "Q1_0"})


@dataclass(frozen=True)
class Bounds:
    """Of blocks in rows, by weight: what they stand for, and which cannot be a rounding; `untold`: blocks of which it
    cannot be told, since an importance that is not known, or is zero, may explain them."""

    values: NDArray[np.float32]
    outside: Flags
    untold: Flags


@np.errstate(all="ignore")  # groups with a step of 0 are judged by themselves, and what is no number is outside
def bounds(
    type_: Type, blocks: Bytes, base: NDArray[np.float32], importance: NDArray[np.float32] | None, *, maybe: bool
) -> Bounds:
    """Hold blocks, shape (blocks, bytes), against the base's weights, shape (blocks, weights).

    `importance` has the weights' shape; `maybe`: there may have been one that is not known.
    """
    if type_.name in UNGUIDED:
        importance, maybe = None, False
    values = np.empty(base.shape, np.float32)
    _kernels.dequantize(type_.name, np.ascontiguousarray(blocks).reshape(-1), values)
    x, y = base.astype(np.float64), values.astype(np.float64)
    if type_.name in _FLOATS:
        relative, absolute = _FLOATS[type_.name]
        outside = ~(np.abs(x - y) <= relative * np.abs(x) + absolute)
        return Bounds(values, outside, np.zeros(len(x), bool))
    steps = STEPS[type_.name](blocks)
    groups = steps.step.shape[1]
    xg, yg = x.reshape(len(x), groups, -1), y.reshape(len(x), groups, -1)
    flat = _flat(type_.name, steps, xg, None if importance is None else importance.reshape(xg.shape), maybe)
    if type_.name == "Q1_0":
        bad = _one_bit(steps, xg, yg)
    elif type_.name in _GRIDS:
        bad = _grid(type_.name, x, y).reshape(xg.shape)
    elif type_.name in _SEARCHED:
        bad = _one_step(_LEVELS[type_.name], steps, xg, yg)
    elif type_.name in _FITTED:
        sane = not maybe if importance is None else _sane(importance.reshape(xg.shape))
        bad = _step_and_offset(_LEVELS[type_.name], steps, xg, yg, sane)
    else:
        bad = _nearest(type_.name, steps, xg, yg)
    constant = steps.step == 0
    bad &= ~constant[..., None]
    untold = np.zeros(len(x), bool)
    varied = constant & ~flat
    if type_.name == "IQ2_XXS" and (importance is not None or maybe):  # a group that nothing weighs has no signs
        varied = varied | (bad.any(axis=2) & (np.ptp(y.reshape(len(y), -1, 32), axis=2) == 0).any(axis=1)[:, None])
    if importance is None:
        explained = np.full(len(x), maybe)
    else:
        parts = importance.reshape(len(x), groups, -1)
        explained = (importance.min(axis=1) <= TINY) | ~_sane(parts).all(axis=1)
    untold |= varied.any(axis=1) & explained
    bad |= (varied & ~explained[:, None])[..., None] & (np.abs(xg - yg) == np.abs(xg - yg).max(axis=2, keepdims=True))
    outside = bad.reshape(x.shape)
    outside[untold] = False
    return Bounds(values, outside | ~np.isfinite(values), untold)


def _sane(importance: NDArray[np.float32]) -> Flags:
    """(blocks, groups): whether each column of a group counts for something."""
    least = importance.min(axis=2)
    return np.asarray((least > TINY) & (importance.max(axis=2) <= SANE * least))


def _flat(name: str, steps: Steps, x: Floats, importance: NDArray[np.float32] | None, maybe: bool) -> Flags:
    """(blocks, groups): whether the base varies so little there that one value may stand for the group.

    A search may let go of what matters little: with an importance, squares count by it; with one that is not known, the
    half that is nearest to the middle counts.
    """
    if name in _GRIDS:
        return np.asarray(np.abs(x).max(axis=2) <= _GRID_FLOOR)
    if name == "Q1_0":
        return np.asarray(np.abs(x).mean(axis=2) <= 2.0**-24)
    levels = _LEVELS[name]
    span = max(abs(levels[0]), abs(levels[-1]))
    affine = name in _FITTED or name in ("Q2_K", "Q4_K", "Q5_K")
    spread = np.ptp(x, axis=2) if affine else np.abs(x).max(axis=2)
    floor = 6.1 * 2.0**-10 if name == "NVFP4" else span * _MULTIPLES.get(name, 1) * 2.0 ** (-21 if affine else -23)
    tiny = spread <= floor
    if name not in _MULTIPLES:
        return np.asarray(tiny)
    allowed = SHARE * span * np.abs(steps.step).max(axis=1, keepdims=True)
    if importance is not None:
        weight = importance * np.sqrt((x * x).mean(axis=(1, 2), keepdims=True) + x * x)
        middle = (weight * x).sum(axis=2, keepdims=True) / weight.sum(axis=2, keepdims=True) if affine else 0.0
        spread = np.sqrt((weight * (x - middle) ** 2).sum(axis=2) / weight.sum(axis=2))
    elif maybe:
        middle = np.median(x, axis=2, keepdims=True) if affine else 0.0
        spread = np.median(np.abs(x - middle), axis=2)
    return np.asarray(tiny | (spread <= allowed))


def _nearest(name: str, steps: Steps, x: Floats, y: Floats) -> Flags:
    """Weights whose level is not the nearest one."""
    levels = _LEVELS[name]
    step, offset = steps.step[..., None], steps.offset[..., None]
    at = np.clip(np.searchsorted(levels, (y + offset) / step - 0.25), 0, len(levels) - 1)
    level = levels[at]
    gaps = np.diff(levels)
    beyond = _BEYOND.get(name, np.inf)
    lower = np.concatenate([[beyond], gaps / 2])[at]
    upper = np.concatenate([gaps / 2, [beyond]])[at]
    if name == "NVFP4":  # a scale that is cut at 448
        upper, lower = (
            np.where((at == end) & (step >= 224), np.inf, side) for end, side in ((len(levels) - 1, upper), (0, lower))
        )
    place = (x + offset) / step
    wide = np.where(np.isinf(lower), upper, np.where(np.isinf(upper), lower, np.maximum(lower, upper)))
    loose = _OFF * wide + (
        steps.slack[..., None] * (np.abs(level) + wide) + 1e-6 * (np.abs(x) + np.abs(offset))
    ) / np.abs(step)
    strange = np.abs((y + offset) / step - level) > 0.01 + 1e-5 * np.abs(offset / step)
    return np.asarray(strange | ~((place >= level - lower - loose) & (place <= level + upper + loose)))


def _one_bit(steps: Steps, x: Floats, y: Floats) -> Flags:
    """Weights of another sign; all, where the step is not the mean magnitude."""
    mean = np.abs(x).mean(axis=2)
    off = np.abs(steps.step - mean) > steps.slack + 1e-3 * mean
    return np.asarray(((x > 0) != (y > 0)) & (x != 0) | off[..., None])


def _one_step(levels: Floats, steps: Steps, x: Floats, y: Floats) -> Flags:
    """Groups whose levels no single step rounds to, or whose step is no mean of the weights' ratios to their levels."""
    level = np.clip(np.rint(y / steps.step[..., None]), levels[0], levels[-1])
    end = 1.5 * levels[-1]
    low = np.where(level == levels[0], -end, level - 0.5)
    high = np.where(level == levels[-1], end, level + 0.5)
    fits = np.zeros(x.shape[:2], bool)
    for sign in (1, -1):
        by_low, by_high = sign * x / low, sign * x / high
        most = np.minimum(np.where(low > 0, by_low, np.inf), np.where(high < 0, by_high, np.inf)).min(axis=2)
        least = np.maximum(np.where(low < 0, by_low, -np.inf), np.where(high > 0, by_high, -np.inf)).max(axis=2)
        fits |= np.maximum(least, 0) <= most * (1 + 1e-5)
    ratio = x / level
    lowest = np.where(level == 0, np.inf, ratio).min(axis=2)
    highest = np.where(level == 0, -np.inf, ratio).max(axis=2)
    loose = steps.slack + 1e-5 * np.abs(steps.step)
    mean = (steps.step >= lowest - loose) & (steps.step <= highest + loose)
    return _furthest(x, y, ~(fits & mean))


def _step_and_offset(levels: Floats, steps: Steps, x: Floats, y: Floats, sane: Flags | bool) -> Flags:
    """Groups whose levels no step and offset round to, or whose own step and offset fit none of them.

    A line of thresholds must separate the levels: its k-th lies above all weights of levels up to k, and below the
    others. Such a line is there when every two thresholds leave room for its slope.
    """
    count = len(levels)
    step, offset = steps.step[..., None], steps.offset[..., None]
    level = np.clip(np.rint((y + offset) / step), 0, levels[-1])
    above = np.stack([np.where(level <= k, x, -np.inf).max(axis=2) for k in range(count - 1)], axis=-1)
    below = np.stack([np.where(level > k, x, np.inf).min(axis=2) for k in range(count - 1)], axis=-1)
    reach = np.abs(x).max(axis=2) * 1e-5
    fits = (above <= below + reach[..., None]).all(axis=2)
    least, most = np.zeros_like(steps.step), np.full_like(steps.step, np.inf)
    for apart in range(1, count - 1):
        low = (above[..., apart:] - below[..., :-apart] - reach[..., None]) / apart
        high = (below[..., apart:] - above[..., :-apart] + reach[..., None]) / apart
        least, most = np.maximum(least, low.max(axis=2)), np.minimum(most, high.min(axis=2))
    fits &= least <= most * (1 + 1e-5)
    spread = np.ptp(x, axis=2)
    near = (
        np.abs(x - y) <= 8 * spread[..., None] + 2 * (steps.slack[..., None] * levels[-1] + half_slack(offset))
    ).all(axis=2)
    rest = x - step * level
    loose = steps.slack * levels[-1] + half_slack(steps.offset) + reach
    mixed = (rest.min(axis=2) <= loose - steps.offset) & (rest.max(axis=2) >= -loose - steps.offset)
    return _furthest(x, y, ~(fits & near & (mixed | ~np.asarray(sane))))


def _furthest(x: Floats, y: Floats, bad: Flags) -> Flags:
    """Of bad groups, the weights that are furthest from the base."""
    error = np.abs(x - y)
    return np.asarray(bad[..., None] & (error == error.max(axis=2, keepdims=True)))


def _grid(name: str, x: Floats, y: Floats) -> Flags:
    """Weights of another sign than a group's turning explains, and those beyond the block's largest level."""
    wrong, size, largest = _GRIDS[name]
    most = np.abs(x).max(axis=1, keepdims=True)
    bad = np.abs(y) > largest * most + _GRID_FLOOR
    if wrong < 8:
        counts = np.abs(x) > 1e-7
        differs = (counts & ((x < 0) != (y < 0))).reshape(len(x), -1, size // 8, 8)
        agrees = (counts & ((x < 0) == (y < 0))).reshape(differs.shape)
        right = (differs.sum(axis=3) <= wrong).all(axis=2) | (agrees.sum(axis=3) <= wrong).all(axis=2)
        flagged = differs & ~right[..., None, None]
        if name == "IQ3_S":  # where 32 weights are zero the reference's points and signs of those behind move up
            flagged &= ~(np.abs(x).reshape(len(x), -1, 32).max(axis=2) == 0).any(axis=1)[:, None, None, None]
        bad |= flagged.reshape(x.shape)
    return np.asarray(bad)
