"""A model that can be evaluated: its weights' source and its hyperparameters, checked against each other."""

from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from quantmill import _kernels
from quantmill.architectures.errors import missing_weights
from quantmill.architectures.hyperparameters import Hyper, hyper
from quantmill.architectures.tensor_check import check, shapes
from quantmill.engine.buffers import Floats
from quantmill.engine.columns import StateColumns, state_columns
from quantmill.engine.errors import not_finite
from quantmill.engine.weight_source import WeightSource, open_source
from quantmill.gguf.types import Type

EMBEDDED = 256  # rows of embeddings that are fetched together
_STEP = 1 << 20  # weights dequantized at a time in search of one that is not finite


@dataclass(frozen=True)
class Model:
    """A context manager. Every tensor that the architecture needs is there and has the shape that it should have."""

    source: WeightSource
    hyper: Hyper

    @cached_property
    def columns(self) -> StateColumns:
        """What the states hold."""
        return state_columns(self.hyper)

    @property
    def output(self) -> str:
        """The name of the output matrix, which is the embeddings where the model has none of its own."""
        return "output.weight" if self.has("output.weight") else "token_embd.weight"

    def has(self, name: str) -> bool:
        return name in self.source.tensors()

    def has_any(self, name: str) -> bool:
        """Whether a layer has a tensor of that name."""
        return any(each.endswith(f".{name}") for each in self.source.tensors())

    def described(self, name: str) -> tuple[tuple[int, ...], Type]:
        """The tensor's shape, in ggml's order, and its type."""
        shape, type_ = self.source.tensors()[name]
        return self._shapes.get(name, shape), type_

    @cached_property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return shapes(self.hyper, self.source.tensors())

    def dense(self, name: str, begin: int, end: int) -> Floats:
        """The rows `begin` to `end`, shape (end - begin, columns)."""
        shape, type_ = self.described(name)
        out = np.empty((end - begin, shape[0]), np.float32)
        _kernels.dequantize(type_.name, np.ascontiguousarray(self.source.rows(name, begin, end)), out)
        return out

    def vector(self, name: str) -> Floats | None:
        """A norm's weights, a bias or rope factors; None when the model has no such tensor."""
        if not self.has(name):
            return None
        values: Floats = self.dense(name, 0, 1)[0]
        if not np.isfinite(values).all():
            self.find_bad([name])
        return values

    def table(self, name: str) -> Floats:
        """All rows of a small matrix; what `vector` says of bad values."""
        values = self.dense(name, 0, prod(self.described(name)[0][1:]))
        if not np.isfinite(values).all():
            self.find_bad([name])
        return values

    def gather(self, name: str, ids: NDArray[np.int32], begin: int = 0, end: int | None = None) -> Floats:
        """The rows `ids` of a matrix, shape (len(ids), columns); of these, those from `begin` to `end`."""
        (columns, *_), type_ = self.described(name)
        end = columns if end is None else end
        first, last = begin // type_.block * type_.block, -(-end // type_.block) * type_.block
        unique, where = np.unique(ids, return_inverse=True)
        raw = self.source.gather(name, unique)
        if last - first < columns:
            part = raw.reshape(len(unique), -1)[:, type_.row_bytes(first) : type_.row_bytes(last)]
            raw = np.ascontiguousarray(part).reshape(-1)
        out = np.empty((len(unique), last - first), np.float32)
        _kernels.dequantize(type_.name, raw, out)
        return out[where, begin - first : end - first]

    def find_bad(self, names: list[str]) -> None:
        """Raises a ForwardError for the first weight among the tensors that is not finite; returns when all are."""
        for name in names:
            shape, _ = self.described(name)
            count = prod(shape[1:])
            step = max(1, _STEP // shape[0])
            for begin in range(0, count, step):
                finite = np.isfinite(self.dense(name, begin, min(begin + step, count))).all(axis=1)
                if not finite.all():
                    row = begin + int(np.argmin(finite))
                    raise not_finite(
                        self.source.place,
                        f"row {row} of {name} has a weight that is not finite; fetch or convert the model anew",
                    )

    def close(self) -> None:
        self.source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def open_model(path: Path, place: str | None = None) -> Model:
    """The model in a GGUF file, the first of its shards, or a Hugging Face folder, which errors call `place`.

    Raises a ForwardError when it cannot be evaluated, and what its reader raises when it cannot be read.
    """
    source = open_source(path)
    source.place = place or source.place
    try:
        embeddings = source.tensors().get("token_embd.weight")
        n_vocab = embeddings[0][1] if embeddings is not None and len(embeddings[0]) == 2 else 0
        found = hyper(source.place, source.metadata, n_vocab)
        if not n_vocab:
            raise missing_weights(source.place, "token_embd.weight", found.architecture)
        check(source.place, found, source.tensors())
    except BaseException:
        source.close()
        raise
    return Model(source, found)
