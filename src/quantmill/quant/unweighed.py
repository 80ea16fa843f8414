"""Importance of zero: groups of columns in which a type's search has nothing to weigh its candidates by.

What such a group comes to was measured with kernels that write what llama-quantize writes. Where its own search finds
nothing, it stops, or writes what is left of the group before, which depends on its threads; from b8229 on it writes the
same each time, far from the weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from quantmill.gguf.types import Type
from quantmill.reference.arithmetic import QuantArithmetic

if TYPE_CHECKING:
    from numpy.typing import NDArray

Outcome = Literal["", "zeros", "chance", "lost", "nothing"]
TINY = 1e-18  # below it the squares that a search compares are too small for float32


class _Search(NamedTuple):
    """`columns` are searched together; all of an importance up to `most` counts for none; `outcome` is what they are
    then written as: zeros, a matter of chance, something else, or nothing, for their scale is no number. From the
    arithmetic `mended` on they are what `then` says."""

    columns: int
    most: float
    outcome: Outcome
    mended: QuantArithmetic = QuantArithmetic.B4234
    then: Outcome | None = None

    def outcome_by(self, arithmetic: QuantArithmetic) -> Outcome:
        """What the columns are written as."""
        return self.outcome if self.then is None or arithmetic < self.mended else self.then


_PLAIN = _Search(32, 0.0, "")  # an importance of zero does no harm
_SEARCHES = {
    **dict.fromkeys(("Q4_0", "Q5_0", "IQ4_XS"), _Search(32, 0.0, "zeros")),
    **dict.fromkeys(("Q3_K", "Q6_K"), _Search(16, 0.0, "zeros")),
    **dict.fromkeys(("Q2_K", "Q4_K", "Q5_K"), _Search(256, 0.0, "nothing", QuantArithmetic.B6301, "zeros")),
    "IQ4_NL": _Search(32, 0.0, "nothing", QuantArithmetic.B8356, "zeros"),
    **dict.fromkeys(("IQ1_S", "IQ2_XXS", "IQ3_XXS"), _Search(32, TINY, "chance", QuantArithmetic.B8229, "lost")),
    **dict.fromkeys(("IQ1_M", "IQ2_XS", "IQ2_S"), _Search(16, TINY, "chance", QuantArithmetic.B8229, "lost")),
}


@dataclass(frozen=True)
class Unweighed:
    """Weights of `tensor` without importance: of a stack, all those of `experts`; in all `weights`."""

    tensor: str
    outcome: Outcome
    experts: tuple[int, ...]
    weights: int
    whole: bool

    def __str__(self) -> str:
        if self.experts:
            return f"{listed(self.experts)} of {self.tensor}"
        return self.tensor if self.whole else f"a part of {self.tensor}"


def listed(experts: Sequence[int]) -> str:
    """The experts of these numbers, in words."""
    shown = ", ".join(map(str, experts[:8])) + (" and more" if len(experts) > 8 else "")
    return f"expert{'s' * (len(experts) > 1)} {shown}"


_SAID = {
    "zeros": "have an importance of zero and become zeros",
    "chance": f"have an importance of zero or below {TINY:g}, where llama-quantize stops or writes what depends on its "
    "threads",
    "lost": f"have an importance of zero or below {TINY:g} and become values far from them",
    "nothing": "have an importance of zero, of which no scale can be made",
}


def said(found: Sequence[Unweighed], weights: int) -> str:
    """What becomes of these, of one outcome and of a file of so many weights, in words."""
    places = [str(each) for each in found]
    some = ", ".join(places) if len(places) <= 3 else f"{places[0]}, {places[1]} and {len(places) - 2} more"
    share = 100 * sum(each.weights for each in found) / max(weights, 1)
    return f"{some} ({share:.3g} % of the weights) {_SAID[found[0].outcome]}"


def unweighed(
    tensor: str,
    shape: Sequence[int],
    type_: Type,
    importance: "NDArray[np.float32]",
    arithmetic: QuantArithmetic,
) -> Unweighed | None:
    """What of a tensor to be written in a type has no importance; None for nothing. `importance` is of the shape
    (matrices, columns)."""
    empty = _empty(type_, importance)
    if not empty.any():
        return None
    rows = int(np.prod(shape[1:], dtype=np.int64)) // len(empty)
    whole = empty.all(axis=1)
    experts = tuple(np.flatnonzero(whole).tolist()) if len(empty) > 1 else ()
    search = _search(type_, importance)
    weights = int(empty.sum()) * search.columns * rows
    return Unweighed(tensor, search.outcome_by(arithmetic), experts, weights, bool(whole.all()))


def as_one(type_: Type, importance: "NDArray[np.float32]") -> "NDArray[np.float32]":
    """The importance, with 1 in each group of columns that has none."""
    empty = _empty(type_, importance)
    if not empty.any():
        return importance
    groups = importance.reshape(*empty.shape, -1).copy()
    groups[empty] = 1
    return groups.reshape(importance.shape)


def is_empty(type_: Type, importance: "NDArray[np.float32]", column: int) -> bool:
    """Whether the columns that are searched together with this one, in a single matrix, have no importance."""
    empty = _empty(type_, importance.reshape(1, -1))
    return bool(empty[0, column * empty.shape[1] // importance.size])


def _search(type_: Type, importance: "NDArray[np.float32]") -> _Search:
    found = _SEARCHES.get(type_.name, _PLAIN)
    columns = importance.shape[1]
    return found if columns % found.columns == 0 else found._replace(columns=columns)


def _empty(type_: Type, importance: "NDArray[np.float32]") -> "NDArray[np.bool_]":
    """(matrices, groups): whether the group has no importance."""
    search = _search(type_, importance)
    most: NDArray[np.bool_] = importance.reshape(len(importance), -1, search.columns).max(axis=2) <= search.most
    return most
