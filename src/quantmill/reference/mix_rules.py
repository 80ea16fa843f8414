"""Which type a tensor gets, by its role and the ftype: how the rules of a reference's mix read.

A rule is a row of choices; the first whose conditions all hold is taken, and the ftype's own type stays when none does.
`a&b=T` means: T when a and b hold; `!a` negates; a bare type always holds. `CONDITIONS` names them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from quantmill.gguf.types import TYPES, Type
from quantmill.reference.hparams import Hparams, ModelFacts
from quantmill.reference.reference import Reference


@dataclass(frozen=True)
class Place:
    """Where a tensor stands: the `i`-th of `n` of its role, in a model, with or without an imatrix for the file.

    `whole`: its rows are whole blocks of the ftype's own type. `stacked`: it holds a matrix for each expert.
    """

    i: int
    n: int
    model: Hparams
    has_imatrix: bool
    whole: bool = True
    stacked: bool = False
    role: str = ""


def more_bits(i: int, n: int) -> bool:
    """The layers that the M mixes favour: the first and the last eighth, and every third between."""
    return i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2


def _gqa(model: Hparams) -> int:
    if model.gqa is None:
        raise ModelFacts("this mix asks for a model's heads, of which a projector has none: llama-quantize stops there")
    return model.gqa


CONDITIONS: dict[str, Callable[[Place], bool]] = {
    "falcon": lambda p: p.model.arch == "falcon",
    "bailingmoe3": lambda p: p.model.arch == "bailingmoe3",
    "stacked": lambda p: p.stacked,
    "ffn": lambda p: p.role.startswith("ffn_"),
    "experts8": lambda p: p.model.n_expert == 8,
    "experts4+": lambda p: p.model.n_expert >= 4,
    "gqa4+": lambda p: _gqa(p.model) >= 4,
    "whole": lambda p: p.whole,
    "imatrix": lambda p: p.has_imatrix,
    "first2": lambda p: p.i < 2,
    "first4": lambda p: p.i < 4,
    "sixteenth": lambda p: p.i < p.n // 16,
    "eighth": lambda p: p.i < p.n // 8,
    "middle": lambda p: p.n // 8 <= p.i < 7 * p.n // 8,
    "more": lambda p: more_bits(p.i, p.n),
}

# The very low ftypes have rules of their own for fewer roles, and count feed-forward tensors; others read the layer.
LOW = frozenset({"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M"})
LOW_ROLES = ("attn_v", "attn_k", "ffn_down", "attn_output")

_Choice = tuple[tuple[tuple[str, bool], ...], Type]


def choose(reference: Reference, role: str, ftype: str, place: Place, default: Type) -> Type:
    """The type that the mix gives to a tensor of `role` at `place`, before a width that does not fit changes it."""
    rule = reference.mix.get((role, ftype)) or reference.mix.get((role, "*"), "")
    for conditions, type_ in choices(rule):
        if all(CONDITIONS[name](place) is wanted for name, wanted in conditions):
            return type_
    return default


@cache
def choices(rule: str) -> tuple[_Choice, ...]:
    """A rule's choices in order, each with its conditions' names and whether they must hold."""
    found: list[_Choice] = []
    for choice in rule.split():
        conditions, _, type_ = choice.rpartition("=")
        names = conditions.split("&") if conditions else []
        found.append((tuple((name.lstrip("!"), not name.startswith("!")) for name in names), TYPES[type_]))
    return tuple(found)
