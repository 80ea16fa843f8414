"""What the weights of a file really are: bits of each, and how many are of another type than its name says."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

from quantmill.gguf.layout import TensorEntry
from quantmill.gguf.types import Type
from quantmill.quant.mix import UNQUANTIZED, Fallback
from quantmill.reference.ftypes import Ftype

ENDS = ("token_embd.weight", "output.weight")


@dataclass(frozen=True)
class Makeup:
    """`bits_per_weight` counts the tensors' data alone.

    `others`: the share of the weights, from 0 to 1, that are of another type than the file's name says. Their rows are
    not whole blocks of it, or they are the embedding or the output and the mix gives these another.
    `types`: a digest of all tensors' types: files of one base and imatrix have the same weights where it is the same.
    """

    bits_per_weight: float
    others: float
    types: str


def makeup(
    tensors: Iterable[TensorEntry], ftype: Ftype | None, types: Mapping[str, Type], fallbacks: Iterable[Fallback]
) -> Makeup:
    """That of a file with these tensors in these `types`; `ftype` is None for the base's own."""
    fallen = {fallback.tensor for fallback in fallbacks}
    named = ftype is not None and ftype.type.name not in UNQUANTIZED
    weights = size = others = 0
    digest = hashlib.sha256()
    for name, shape, _ in tensors:
        count, type_ = prod(shape), types[name]
        digest.update(f"{name}\0{type_.name}\0".encode())
        weights += count
        size += count // type_.block * type_.size
        if ftype is not None and named and (name in fallen or (name in ENDS and type_ != ftype.type)):
            others += count
    return Makeup(size * 8 / max(weights, 1), others / max(weights, 1), digest.hexdigest())
