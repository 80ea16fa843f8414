"""A file made twice in part: some of its tensors are quantized again and compared, which finds a memory or a core that
computes wrongly."""

import hashlib
import math
import os
from collections.abc import Collection
from pathlib import Path

from quantmill import gguf
from quantmill.quant.quantizer import quantize_tensors
from quantmill.reference.reference import Reference

CHUNK = 4 << 20


def chosen(names: Collection[str], share: float, seed: str) -> list[str]:
    """A share of the names, at least one: the same for the same seed."""
    ranked = sorted(names, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())
    return ranked[: math.ceil(share * len(ranked))]


def differing(
    base: Path,
    made: Path,
    work: Path,
    share: float,
    seed: str,
    *,
    imatrix: str | os.PathLike[str] | None,
    zero_as_one: bool = False,
    allow_requantize: bool = False,
    reference: Reference,
    threads: int,
) -> list[str]:
    """The tensors of the quantized file `made` that come out otherwise when they are quantized, or copied, again from
    `base`, of a share of them that `seed` chooses. `work` is an empty folder."""
    with gguf.read(made) as file:
        types = {name: info.type.name for name, info in file.tensors.items()}
        names = chosen(types, share, seed)
        if not names:
            return []
        again = work / "again.gguf"
        quantize_tensors(
            base,
            again,
            {name: types[name] for name in names},
            imatrix=imatrix,
            zero_as_one=zero_as_one,
            allow_requantize=allow_requantize,
            reference=reference,
            threads=threads,
        )
        with gguf.read(again) as second:
            return [name for name in sorted(names) if not _same(file, second, name)]


def _same(one: gguf.GGUFFile, other: gguf.GGUFFile, name: str) -> bool:
    first, second = one.data(one.tensors[name]), other.data(other.tensors[name])
    return first.size == second.size and all(
        bytes(first[at : at + CHUNK]) == bytes(second[at : at + CHUNK]) for at in range(0, first.size, CHUNK)
    )
