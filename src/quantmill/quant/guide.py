"""What guides a quantization: the importance vectors of a base's tensors."""

import os
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from quantmill import imatrix as imatrix_file
from quantmill.errors import UsageError
from quantmill.gguf.types import Type
from quantmill.imatrix import Imatrix
from quantmill.quant.file_plan import ImatrixFacts
from quantmill.quant.unweighed import as_one

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Guide:
    """An imatrix, or none. `zero_as_one`: columns weigh alike where a type would have nothing to go by. `names`: what
    it calls tensors whose names are others now."""

    def __init__(self, place: str, imatrix: Imatrix | None, zero_as_one: bool) -> None:
        self.names: Mapping[str, str] = {}
        self.place, self.imatrix, self.zero_as_one = place, imatrix, zero_as_one
        self.called = place  # by errors

    @classmethod
    def read(
        cls,
        path: str | os.PathLike[str] | None,
        zero_as_one: bool,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
    ) -> "Guide":
        """The imatrix as llama-quantize uses it; one that holds nothing after the selection counts as none."""
        if path is None:
            return cls("", None, zero_as_one)
        selected = imatrix_file.read(path).select(include, exclude)
        return cls(os.fspath(path), selected if selected.vectors else None, zero_as_one)

    def facts(self, name: str | None) -> ImatrixFacts | None:
        """What files say of it, when it was called so; without a name, by its path."""
        if self.imatrix is None:
            return None
        return ImatrixFacts(name or self.place, self.imatrix.dataset, len(self.imatrix.vectors), self.imatrix.chunks)

    def strangers(self, names: Collection[str]) -> tuple[str, ...]:
        """Its entries that are of none of these tensors; UsageError when all are."""
        vectors = self.imatrix.vectors if self.imatrix else {}
        found = tuple(name for name in vectors if name not in names)
        if vectors and len(found) == len(vectors):
            raise UsageError(
                f"{self.called}: none of its {len(found)} entries ({found[0]}) is of a tensor of this model; "
                "take an imatrix that was computed from it"
            )
        return found

    def importance(self, name: str, shape: Sequence[int], type_: Type) -> "NDArray[np.float32] | None":
        """The tensor's importance vectors for a type, shape (matrices, columns), or None."""
        vector = self.imatrix.vectors.get(self.names.get(name, name)) if self.imatrix else None
        if vector is None:
            return None
        columns, _, matrices = (*shape, 1, 1)[:3]
        if vector.size != columns * matrices:
            if name == "token_embd.weight":  # llama-imatrix never measures it; an entry of another kind is passed over
                return None
            raise UsageError(
                f"{self.called}: the importance vector of {name} has {vector.size} values, the tensor needs "
                f"{columns * matrices}; it is of another model, take an imatrix that was computed from this one"
            )
        found = np.ascontiguousarray(vector).reshape(matrices, columns)
        return as_one(type_, found) if self.zero_as_one else found
