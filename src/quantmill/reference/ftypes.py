"""The ftypes: names of whole-file mixes, one row each.

Source of the figures: llama.h (the numbers that `general.file_type` stores) and llama-quantize's own list of names.
`type` is what most of the file's matrices become; a reference's mix names the exceptions, and its `ftypes` those of
this table that its tags have.
"""

from dataclasses import dataclass, field

from quantmill.errors import UsageError, nearest
from quantmill.gguf.types import TYPES, Type


@dataclass(frozen=True)
class Ftype:
    """One whole-file mix.

    `base` is the name that llama-quantize knows it by: itself, but for aliases (`Q4_K`) and the `_L`/`_XL` names, which
    are `base` with `embedding_and_output` as the type of the token embedding and of the output matrix.
    """

    name: str
    id: int
    type: Type
    base: str
    needs_imatrix: bool = False
    embedding_and_output: Type | None = field(default=None)


_ROWS = """
F32 0 F32
F16 1 F16
Q4_0 2 Q4_0
Q4_1 3 Q4_1
Q8_0 7 Q8_0
Q5_0 8 Q5_0
Q5_1 9 Q5_1
Q2_K 10 Q2_K
Q3_K_S 11 Q3_K
Q3_K_M 12 Q3_K
Q3_K_L 13 Q3_K
Q4_K_S 14 Q4_K
Q4_K_M 15 Q4_K
Q5_K_S 16 Q5_K
Q5_K_M 17 Q5_K
Q6_K 18 Q6_K
IQ2_XXS 19 IQ2_XXS imatrix
IQ2_XS 20 IQ2_XS imatrix
Q2_K_S 21 Q2_K imatrix
IQ3_XS 22 IQ3_S
IQ3_XXS 23 IQ3_XXS
IQ1_S 24 IQ1_S imatrix
IQ4_NL 25 IQ4_NL
IQ3_S 26 IQ3_S
IQ3_M 27 IQ3_S
IQ2_S 28 IQ2_XS imatrix
IQ2_M 29 IQ2_S
IQ4_XS 30 IQ4_XS
IQ1_M 31 IQ1_M imatrix
BF16 32 BF16
TQ1_0 36 TQ1_0
TQ2_0 37 TQ2_0
MXFP4_MOE 38 MXFP4
Q1_0 40 Q1_0
Q2_0 41 Q2_0
"""

_ALIASES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}
_LARGE = {"Q6_K_L": "Q6_K", "Q5_K_L": "Q5_K_M", "Q4_K_L": "Q4_K_M", "Q3_K_XL": "Q3_K_L", "Q2_K_L": "Q2_K"}


def _table() -> dict[str, Ftype]:
    table: dict[str, Ftype] = {}
    for row in _ROWS.split("\n"):
        if row:
            name, id_, type_, *flags = row.split()
            table[name] = Ftype(name, int(id_), TYPES[type_], name, needs_imatrix="imatrix" in flags)
    for name, base in _ALIASES.items():
        table[name] = Ftype(name, table[base].id, table[base].type, base)
    for name, base in _LARGE.items():
        table[name] = Ftype(name, table[base].id, table[base].type, base, embedding_and_output=TYPES["Q8_0"])
    table["COPY"] = Ftype("COPY", 0, TYPES["F32"], "COPY")  # every tensor as it is; the file's own ftype number stays
    return table


FTYPES: dict[str, Ftype] = _table()
# By general.file_type's number; of several names the one that stands first, which is llama.cpp's own.
BY_NUMBER: dict[int, Ftype] = {found.id: found for found in reversed(FTYPES.values())}

LATER = frozenset({"MXFP4_MOE", "Q1_0", "Q2_0"})  # that came after b4867

# The 26 quantized files of a usual release, largest first; a bf16 file stands beside them.
_MATRIX = """
Q8_0 Q6_K_L Q6_K Q5_K_L Q5_K_M Q5_K_S Q4_1 Q4_K_L Q4_K_M Q4_K_S Q4_0 IQ4_NL Q3_K_XL IQ4_XS Q3_K_L Q3_K_M IQ3_M
Q3_K_S IQ3_XS Q2_K_L IQ3_XXS Q2_K IQ2_M IQ2_S IQ2_XS IQ2_XXS
"""
STANDARD_MATRIX: tuple[str, ...] = tuple(_MATRIX.split())
# The types of tensors that a mix found by measuring is made of, best first.
COMMON_TYPES = (
    *("Q8_0", "Q6_K", "Q5_K", "Q5_1", "Q5_0", "Q4_K", "Q4_1", "IQ4_NL", "Q4_0", "IQ4_XS", "Q3_K", "IQ3_S"),
    *("IQ3_XXS", "Q2_K", "IQ2_S", "IQ2_XS", "IQ2_XXS"),
)


def tensor_type(name: str) -> Type:
    """The tensor type of that name, whatever its case; UsageError naming the nearest spelling otherwise."""
    found = TYPES.get(name.upper())
    if found is None:
        raise UsageError(f"{name} is not a tensor type{nearest(name, TYPES)}: known are {' '.join(TYPES)}")
    return found
