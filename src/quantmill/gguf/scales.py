"""Where every type keeps its floating-point numbers, and the search for the first one that is infinite or no number.

Source of the layouts: the block structs of ggml-common.h; the rule (no such number anywhere) is that of
ggml_validate_row_data, which llama.cpp runs with --check-tensors.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantmill.gguf.types import Type

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Field:
    """A number in a block: its name in ggml's struct, its offset in bytes and its format."""

    name: str
    offset: int
    format: str


# A float is infinite or no number exactly when its exponent's bits are all ones.
_EXPONENTS = {"F16": ("<u2", 0x7C00), "BF16": ("<u2", 0x7F80), "F32": ("<u4", 0x7F800000), "F64": ("<u8", 0x7FF0 << 48)}

_ROWS = """
Q1_0 d 0
Q2_0 d 0
Q4_0 d 0
Q4_1 d 0 m 2
Q5_0 d 0
Q5_1 d 0 m 2
Q8_0 d 0
Q2_K d 80 dmin 82
Q3_K d 108
Q4_K d 0 dmin 2
Q5_K d 0 dmin 2
Q6_K d 208
IQ1_S d 0
IQ2_XXS d 0
IQ2_XS d 0
IQ2_S d 0
IQ3_XXS d 0
IQ3_S d 0
IQ4_NL d 0
IQ4_XS d 0
TQ1_0 d 52
TQ2_0 d 64
"""

FIELDS: dict[str, tuple[Field, ...]] = {
    **{name: (Field("weight", 0, name),) for name in _EXPONENTS},
    **dict.fromkeys(("I8", "I16", "I32", "I64", "NVFP4"), ()),  # every pattern of bits is a number
    "IQ1_M": (Field("scales", 48, "nibbles"),),
    "MXFP4": (Field("e", 0, "E8M0"),),
}
for _name, *_facts in (row.split() for row in _ROWS.split("\n") if row):
    FIELDS[_name] = tuple(Field(f, int(at), "F16") for f, at in zip(_facts[::2], _facts[1::2], strict=True))


def _nibbles(blocks: Bytes, offset: int) -> NDArray[np.bool_]:
    """IQ1_M spreads one fp16 over the upper four bits of four 16-bit words, the lowest bits first."""
    high = blocks[:, offset + 1 : offset + 8 : 2] >> 4
    # bits 10 to 14 are the exponent: two from the third nibble, three from the fourth
    return np.asarray(((high[:, 2] & 0xC) == 0xC) & ((high[:, 3] & 0x7) == 0x7))


def _e8m0(blocks: Bytes, offset: int) -> NDArray[np.bool_]:
    return np.asarray(blocks[:, offset] == 0xFF)


_SPECIAL: dict[str, Callable[[Bytes, int], NDArray[np.bool_]]] = {"nibbles": _nibbles, "E8M0": _e8m0}


def first_broken(type_: Type, data: Bytes) -> tuple[int, str] | None:
    """(block, field) of the first number in whole blocks of `type_` that is infinite or none; None when all are finite.

    For a type of single weights the block is the weight. `data` is one-dimensional and of any alignment.
    """
    blocks = data.reshape(-1, type_.size)
    found: tuple[int, str] | None = None
    for field in FIELDS[type_.name]:
        if field.format in _SPECIAL:
            broken = _SPECIAL[field.format](blocks, field.offset)
        else:
            dtype, exponent = _EXPONENTS[field.format]
            words = np.ndarray((len(blocks),), dtype, data, field.offset, (type_.size,))
            broken = (words & words.dtype.type(exponent)) == exponent
        at = int(broken.argmax()) if len(broken) else 0
        if len(broken) and broken[at] and (found is None or at < found[0]):
            found = at, field.name
    return found
