"""Which type a tensor gets, by its role and the ftype: the rules of llama-quantize (b4867 to b5490) as a table.

A row is `role ftypes: choices`; the first choice whose conditions all hold is taken, and the ftype's own type stays
when none does. `a&b=T` means: T when a and b hold; `!a` negates; a bare type always holds. `CONDITIONS` names them.
"""

from collections.abc import Callable
from dataclasses import dataclass

from quantmill.gguf.types import TYPES, Type
from quantmill.reference.hparams import Hparams


@dataclass(frozen=True)
class Place:
    """Where a tensor stands: the `i`-th of `n` of its role, in a model, with or without an imatrix for the file."""

    i: int
    n: int
    model: Hparams
    has_imatrix: bool


def more_bits(i: int, n: int) -> bool:
    """The layers that the M mixes favour: the first and the last eighth, and every third between."""
    return i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2


CONDITIONS: dict[str, Callable[[Place], bool]] = {
    "falcon": lambda p: p.model.arch == "falcon",
    "experts8": lambda p: p.model.n_expert == 8,
    "experts4+": lambda p: p.model.n_expert >= 4,
    "gqa4+": lambda p: p.model.gqa >= 4,
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

_ROWS = """
token_embd IQ1_S IQ1_M IQ2_XXS IQ2_XS: Q2_K
token_embd IQ2_S IQ2_M IQ3_XXS: IQ3_S
token_embd TQ1_0 TQ2_0: Q4_K

attn_v IQ1_S IQ1_M IQ2_XXS IQ2_XS: gqa4+=Q4_K experts4+=Q4_K Q2_K
attn_v IQ2_S IQ2_M: gqa4+=Q4_K experts4+=Q4_K IQ3_S
attn_v Q2_K: gqa4+=Q4_K Q3_K
attn_v Q2_K_S IQ3_XS IQ3_S: gqa4+=Q4_K
attn_v IQ3_XXS: gqa4+=Q4_K !imatrix=IQ3_S IQ3_XXS
attn_v IQ3_M: Q4_K
attn_v Q3_K_M: first2=Q5_K Q4_K
attn_v Q3_K_L: Q5_K
attn_v IQ4_NL IQ4_XS: gqa4+=Q5_K
attn_v Q4_K_S: first4=Q5_K
attn_v Q4_K_M Q5_K_M: more=Q6_K

attn_k IQ1_S IQ1_M IQ2_XXS IQ2_XS IQ2_S IQ2_M: experts8=Q4_K
attn_k IQ3_XS: experts8=Q8_0 IQ3_XXS
attn_k IQ3_XXS: experts8=Q8_0 IQ2_S
attn_k *: experts8=Q8_0

attn_q IQ3_XS: IQ3_XXS
attn_q IQ3_XXS: IQ2_S

ffn_down IQ1_S IQ1_M IQ2_XXS IQ2_XS: eighth=Q2_K
ffn_down IQ2_S IQ2_M: eighth=IQ3_S
ffn_down Q2_K: Q3_K
ffn_down Q2_K_S: eighth=Q4_K
ffn_down IQ3_XXS: !imatrix&eighth=Q4_K !imatrix=Q3_K
ffn_down Q3_K_M: sixteenth=Q5_K !falcon=Q4_K more=Q4_K
ffn_down IQ3_M: eighth=Q4_K experts8&more=Q4_K
ffn_down Q3_K_L: falcon=Q4_K Q5_K
ffn_down Q4_K_M: falcon&sixteenth=Q6_K falcon&more=Q5_K !falcon&more=Q6_K
ffn_down IQ4_NL IQ4_XS: !imatrix&eighth=Q5_K
ffn_down Q5_K_M: more=Q6_K
ffn_down Q4_K_S: !falcon&eighth=Q5_K
ffn_down Q4_0: imatrix&eighth=Q4_1
ffn_down Q5_0: imatrix&eighth=Q5_1

attn_output IQ1_S IQ1_M: experts8=Q5_K IQ2_XXS
attn_output IQ2_XXS IQ2_XS: experts8=Q5_K
attn_output IQ2_S IQ2_M: experts8=Q5_K IQ3_S
attn_output Q2_K: !falcon&experts8=Q5_K !falcon=Q3_K
attn_output IQ3_XXS: !falcon&experts8=Q5_K !falcon=IQ3_S
attn_output Q3_K_M IQ3_M: !falcon&experts8=Q5_K !falcon=Q4_K
attn_output Q3_K_L: falcon=Q4_K !experts8=Q5_K
attn_output IQ3_XS IQ3_S Q3_K_S IQ4_NL IQ4_XS Q4_K_S Q4_K_M: !falcon&experts8=Q5_K

attn_qkv Q3_K_M Q3_K_L IQ3_M: Q4_K
attn_qkv Q4_K_M: Q5_K
attn_qkv Q5_K_M: Q6_K

ffn_gate IQ3_XS: middle=IQ3_XXS
ffn_up IQ3_XS: middle=IQ3_XXS
"""

# In the order in which a name is searched for them; any part may match (`ffn_down` is in `ffn_down_exps.weight`).
ROLES: dict[str, str] = {
    "attn_v": "attn_v.weight",
    "attn_k": "attn_k.weight",
    "attn_q": "attn_q.weight",
    "ffn_down": "ffn_down",
    "attn_output": "attn_output.weight",
    "attn_qkv": "attn_qkv.weight",
    "ffn_gate": "ffn_gate",
    "ffn_up": "ffn_up",
}
LOW_ROLES = ("attn_v", "attn_k", "ffn_down", "attn_output")

_Choice = tuple[tuple[tuple[str, bool], ...], Type]


def _parse() -> dict[tuple[str, str], tuple[_Choice, ...]]:
    table: dict[tuple[str, str], tuple[_Choice, ...]] = {}
    for row in filter(None, _ROWS.split("\n")):
        left, right = row.split(": ")
        role, *ftypes = left.split()
        choices: list[_Choice] = []
        for choice in right.split():
            conditions, _, type_ = choice.rpartition("=")
            names = conditions.split("&") if conditions else []
            choices.append((tuple((name.lstrip("!"), not name.startswith("!")) for name in names), TYPES[type_]))
        for ftype in ftypes:
            table[role, ftype] = tuple(choices)
    return table


_TABLE = _parse()


def choose(role: str, ftype: str, place: Place, default: Type) -> Type:
    """The type that the table gives to a tensor of `role` at `place`, before a width that does not fit changes it."""
    for conditions, type_ in _TABLE.get((role, ftype)) or _TABLE.get((role, "*"), ()):
        if all(CONDITIONS[name](place) is wanted for name, wanted in conditions):
            return type_
    return default
