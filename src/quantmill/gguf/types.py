"""The types of GGUF: of tensors, one row a type, and of metadata's values.

Source of the figures: ggml's type table (ggml.h, ggml-common.h). `block` is the number of weights in a block, `size`
the block's bytes, `id` the number that a GGUF file stores.
"""

from dataclasses import dataclass
from enum import IntEnum


@dataclass(frozen=True)
class Type:
    """A tensor's format. `row_bytes(n)` is the size in bytes of a row of `n` weights."""

    name: str
    id: int
    block: int
    size: int

    def row_bytes(self, columns: int) -> int:
        """Bytes of one row; ValueError when the row does not consist of whole blocks."""
        if columns % self.block:
            raise ValueError(f"a row of {columns} weights is not made of whole {self.name} blocks of {self.block}")
        return columns // self.block * self.size


_ROWS = """
F32 0 1 4
F16 1 1 2
Q4_0 2 32 18
Q4_1 3 32 20
Q5_0 6 32 22
Q5_1 7 32 24
Q8_0 8 32 34
Q2_K 10 256 84
Q3_K 11 256 110
Q4_K 12 256 144
Q5_K 13 256 176
Q6_K 14 256 210
IQ2_XXS 16 256 66
IQ2_XS 17 256 74
IQ3_XXS 18 256 98
IQ1_S 19 256 50
IQ4_NL 20 32 18
IQ3_S 21 256 110
IQ2_S 22 256 82
IQ4_XS 23 256 136
I8 24 1 1
I16 25 1 2
I32 26 1 4
I64 27 1 8
F64 28 1 8
IQ1_M 29 256 56
BF16 30 1 2
TQ1_0 34 256 54
TQ2_0 35 256 66
MXFP4 39 32 17
NVFP4 40 64 36
Q1_0 41 128 18
Q2_0 42 64 18
"""

TYPES: dict[str, Type] = {
    name: Type(name, int(id_), int(block), int(size))
    for name, id_, block, size in (row.split() for row in _ROWS.split("\n") if row)
}
BY_ID: dict[int, Type] = {type_.id: type_ for type_ in TYPES.values()}


class ValueType(IntEnum):
    """The value types of GGUF (gguf.h); equal to the gguf package's GGUFValueType without its import."""

    UINT8 = 0
    INT8 = 1
    UINT16 = 2
    INT16 = 3
    UINT32 = 4
    INT32 = 5
    FLOAT32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    UINT64 = 10
    INT64 = 11
    FLOAT64 = 12
