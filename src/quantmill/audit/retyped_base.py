"""A base as a file of another type that was made of it first: what a release may have been quantized from instead."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from quantmill import _kernels
from quantmill.audit.tensors import Tensors
from quantmill.errors import QuantmillError
from quantmill.gguf import model_facts
from quantmill.gguf.layout import TensorEntry, TensorInfo, ggml_shape
from quantmill.gguf.values import KV
from quantmill.quant.mix import plan_types
from quantmill.quant.quantizer import rows_at_once
from quantmill.quant.refused import NotFinite
from quantmill.reference.hparams import Hparams
from quantmill.reference.spans import newest

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIDDLES = ("F16", "BF16", "Q8_0")  # that people quantize from, and whose bytes no imatrix and no tag decides
AT_ONCE = 1 << 20  # weights that are converted at a time


class RetypedBase:
    """The base's tensors with the types that the ftype gives them, converted as they are read."""

    def __init__(self, base: Tensors, ftype: str) -> None:
        """Raises QuantmillError where the base cannot be of that ftype."""
        self._base, self.ftype, self._reference = base, ftype, newest()
        entries = [entry._replace(shape=ggml_shape(entry.shape)) for entry in base.tensors()]
        facts = model_facts(base.metadata.values())
        chosen = self._reference.ftype(ftype)
        types = plan_types(self._reference, chosen, Hparams.from_metadata(facts), entries, False).types
        writable = _kernels.quantize_types()
        if lost := next((entry for entry in entries if entry.type.name not in writable), None):
            raise QuantmillError(f"{lost.name} is {lost.type.name}, of which nothing else is made")
        self._infos = {name: TensorInfo(name, base.info(name).shape, type_, 0) for name, type_ in types.items()}

    @property
    def metadata(self) -> Mapping[str, KV]:
        return self._base.metadata

    @property
    def differs(self) -> bool:
        """Whether any tensor is of another type than in the base."""
        return any(info.type != self._base.info(name).type for name, info in self._infos.items())

    def tensors(self) -> list[TensorEntry]:
        return [info.entry for info in self._infos.values()]

    def info(self, name: str) -> TensorInfo:
        return self._infos[name]

    def read_runs(self, name: str, runs: "Iterable[tuple[int, NDArray[np.uint8]]]") -> None:
        info, source = self._infos[name], self._base.info(name)
        runs = list(runs)
        if info.type == source.type:
            self._base.read_runs(name, runs)
            return
        size, raw_size = info.type.row_bytes(info.columns), source.type.row_bytes(info.columns)
        raws = [np.empty(len(into) // size * raw_size, np.uint8) for _, into in runs]
        begins = [start // size * raw_size for start, _ in runs]
        self._base.read_runs(name, list(zip(begins, raws, strict=True)))
        tile = np.empty((rows_at_once(self._reference, info.type, info.columns), info.columns), np.float32)
        arithmetic = self._reference.arithmetic
        for (_, into), raw in zip(runs, raws, strict=True):
            if not _kernels.quantize_stored(source.type.name, raw, info.type.name, into, tile, None, arithmetic):
                raise NotFinite("the base has weights there that are not finite")
