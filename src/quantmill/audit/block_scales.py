"""The steps of a block as they are stored: a weight is `step * level - offset`, one step and offset for each group.

Source of the layouts: the block structs and dequantize_row_* of ggml-quants.c; the kernels decode them alike.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]

IQ4 = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
FP4 = (-12, -8, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8, 12)


@dataclass(frozen=True)
class Steps:
    """Of blocks in rows. `step` and `offset`: (blocks, groups).

    `slack`: how far a step may be from the one that chose the levels, since it was rounded to be stored afterwards; 0
    where the stored one chose them.
    """

    step: Floats
    offset: Floats
    slack: Floats


def half(blocks: Bytes, at: int) -> Floats:
    """The fp16 at a byte of each block: (blocks, 1)."""
    return np.ascontiguousarray(blocks[:, at : at + 2]).view("<f2").astype(np.float64)


def half_slack(value: Floats) -> Floats:
    """What a number may lose when it is rounded to this fp16."""
    return np.maximum(np.abs(value) * 2.0**-11, 2.0**-25) * 1.01


def _plain(at: int = 0) -> Callable[[Bytes], Steps]:
    def steps(blocks: Bytes) -> Steps:
        d = half(blocks, at)
        return Steps(d, np.zeros_like(d), half_slack(d))

    return steps


def _affine(blocks: Bytes) -> Steps:
    d = half(blocks, 0)
    return Steps(d, -half(blocks, 2), half_slack(d))


def _stored(step: Floats, offset: Floats | None = None) -> Steps:
    return Steps(step, np.zeros_like(step) if offset is None else offset, np.zeros_like(step))


def _q2_k(blocks: Bytes) -> Steps:
    return _stored(half(blocks, 80) * (blocks[:, :16] & 15), half(blocks, 82) * (blocks[:, :16] >> 4))


def _q3_k(blocks: Bytes) -> Steps:
    low, high = blocks[:, 96:104], blocks[:, 104:108]
    nibbles = np.concatenate([low & 15, low >> 4], axis=1)
    bits = np.concatenate([high >> shift & 3 for shift in (0, 2, 4, 6)], axis=1)
    return _stored(half(blocks, 108) * ((nibbles | bits << 4).astype(np.int16) - 32))


def _k_groups(blocks: Bytes) -> Steps:
    first, second, third = blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16]
    scales = np.concatenate([first & 63, third & 15 | first >> 6 << 4], axis=1)
    minima = np.concatenate([second & 63, third >> 4 | second >> 6 << 4], axis=1)
    return _stored(half(blocks, 0) * scales, half(blocks, 2) * minima)


def _q6_k(blocks: Bytes) -> Steps:
    return _stored(half(blocks, 208) * np.ascontiguousarray(blocks[:, 192:208]).view(np.int8))


def _iq4_xs(blocks: Bytes) -> Steps:
    d = half(blocks, 0)
    high = np.stack([blocks[:, 2 + g // 4] >> (2 * (g % 4)) & 3 for g in range(8)], axis=1)
    low = np.stack([blocks[:, 4 + g // 2] >> (4 * (g % 2)) & 15 for g in range(8)], axis=1)
    multiple = (high << 4 | low).astype(np.int16) - 32
    return Steps(d * multiple, np.zeros(multiple.shape), half_slack(d) * np.abs(multiple))


def _mxfp4(blocks: Bytes) -> Steps:
    return _stored(np.ldexp(1.0, blocks[:, :1].astype(np.int32) - 128))


def _nvfp4(blocks: Bytes) -> Steps:
    code = blocks[:, :4].astype(np.int32) & 127
    normal = np.ldexp(1 + (code & 7) / 8, (code >> 3) - 8)
    return _stored(np.where(code >> 3 == 0, (code & 7) * 2.0**-10, np.where(code == 127, 0, normal)))


def _super(at: int) -> Callable[[Bytes], Steps]:
    """Of grids, of which the block's own scale alone is asked for."""
    return lambda blocks: _stored(half(blocks, at))


def _iq1_m(blocks: Bytes) -> Steps:
    words = np.ascontiguousarray(blocks[:, 48:56]).view("<u2")
    bits = words[:, 0] >> 12 | words[:, 1] >> 8 & 0xF0 | words[:, 2] >> 4 & 0xF00 | words[:, 3] & 0xF000
    return _stored(np.ascontiguousarray(bits.astype("<u2")).view("<f2").astype(np.float64)[:, None])


STEPS: dict[str, Callable[[Bytes], Steps]] = {
    **dict.fromkeys(("Q4_0", "Q5_0", "Q8_0", "IQ4_NL", "Q1_0", "Q2_0"), _plain()),
    **dict.fromkeys(("Q4_1", "Q5_1"), _affine),
    "TQ1_0": _plain(52),
    "TQ2_0": _plain(64),
    "Q2_K": _q2_k,
    "Q3_K": _q3_k,
    **dict.fromkeys(("Q4_K", "Q5_K"), _k_groups),
    "Q6_K": _q6_k,
    "IQ4_XS": _iq4_xs,
    "MXFP4": _mxfp4,
    "NVFP4": _nvfp4,
    **dict.fromkeys(("IQ1_S", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"), _super(0)),
    "IQ1_M": _iq1_m,
}
