"""The ways in which a tensor may have been quantized: by which arithmetic, and with which importance."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from quantmill.audit.rounding import UNGUIDED
from quantmill.gguf.layout import TensorInfo
from quantmill.gguf.types import Type
from quantmill.quant.guide import Guide
from quantmill.quant.unweighed import as_one
from quantmill.reference.reference import Reference
from quantmill.reference.spans import offered

if TYPE_CHECKING:
    from numpy.typing import NDArray

Weighing = Literal["imatrix", "zero as one", "none"]

# The numbers of the arithmetics from which on a type is written otherwise than before: kernels/common/changes.h.
# All others are written the same by all.
_TURNS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("Q2_K", "Q4_K", "Q5_K"), (2,)),
    **dict.fromkeys(("IQ4_NL", "IQ4_XS"), (5,)),
    "IQ3_XXS": (3, 4),
    **dict.fromkeys(("IQ2_XS", "IQ2_S", "IQ3_S"), (4,)),
    **dict.fromkeys(("IQ2_XXS", "IQ1_S"), (2, 4)),
    "IQ1_M": (2, 4, 6),
}
_GUIDED = frozenset({"IQ2_XXS", "IQ2_XS", "IQ1_S"})  # that cannot be written without one


def kind(type_: Type, reference: Reference) -> int:
    """Equal for references that write the type alike."""
    return sum(int(reference.arithmetic) >= turn for turn in _TURNS.get(type_.name, ()))


@dataclass(frozen=True)
class Way:
    """A reference that stands for all that write the type alike, and the importance, (matrices, columns) or None."""

    reference: Reference
    weighing: Weighing
    importance: "NDArray[np.float32] | None"


def ways_for(type_: Type, info: TensorInfo, guide: Guide, likely: Sequence[Reference]) -> Iterator[Way]:
    """The likeliest first: a reference of `likely`, newest first, with the importance vector where there is one."""
    vector = None if type_.name in UNGUIDED else guide.importance(info.name, info.shape, type_)
    ways: list[tuple[Weighing, NDArray[np.float32] | None]] = []
    if vector is not None:
        ways.append(("imatrix", vector))
        if (filled := as_one(type_, vector)) is not vector:
            ways.append(("zero as one", filled))
    if type_.name not in _GUIDED:
        ways.append(("none", None))
    stand: dict[int, Reference] = {}
    for reference in (*reversed(likely), *reversed(offered())):
        stand.setdefault(kind(type_, reference), reference)
    for weighing, importance in ways:
        for reference in stand.values():
            yield Way(reference, weighing, importance)
