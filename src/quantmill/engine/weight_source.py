"""Where weights come from: a GGUF file, its shards, or a Hugging Face folder, all under GGUF's names."""

import hashlib
import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from quantmill.architectures.checkpoint_tensors import TensorSpec, tensors
from quantmill.architectures.json_file import load_config
from quantmill.architectures.known import architecture
from quantmill.architectures.metadata_keys import facts
from quantmill.checkpoint.safetensors import Weight, open_weights
from quantmill.checkpoint.weights import check, rows
from quantmill.gguf import KV, kv
from quantmill.gguf.source import Source as Shards
from quantmill.gguf.types import Type


class WeightSource(Protocol):
    """Tensors by name. `place` is what errors call the model; `metadata` has at least its hyperparameters."""

    place: str
    metadata: Mapping[str, KV]

    def tensors(self) -> Mapping[str, tuple[tuple[int, ...], Type]]:
        """Every tensor's shape, in ggml's order, and type."""

    def rows(self, name: str, begin: int, end: int) -> NDArray[np.uint8]:
        """The bytes of the rows `begin` to `end`; a vector is one row, and several matrices have their rows in turn."""

    def gather(self, name: str, ids: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        """The bytes of the rows `ids`, one after the other."""

    def fingerprint(self) -> str:
        """Changes whenever the files may have; reads no weights."""

    def close(self) -> None: ...


class GGUFSource:
    """A GGUF file, or the first of its shards."""

    def __init__(self, path: Path) -> None:
        self.place = str(path)
        self._shards = Shards(path)
        self.metadata = self._shards.metadata
        self._tensors = {name: (tuple(shape), type_) for name, shape, type_ in self._shards.tensors()}

    def tensors(self) -> Mapping[str, tuple[tuple[int, ...], Type]]:
        return self._tensors

    def rows(self, name: str, begin: int, end: int) -> NDArray[np.uint8]:
        shape, type_ = self._tensors[name]
        size = type_.row_bytes(shape[0])
        return self._shards.data(name)[begin * size : end * size]

    def gather(self, name: str, ids: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        size = self._tensors[name][1].row_bytes(self._tensors[name][0][0])
        found: NDArray[np.uint8] = self._shards.data(name).reshape(-1, size)[ids]
        return found.reshape(-1)

    def fingerprint(self) -> str:
        facts = [(entry.key, hashlib.sha256(entry.encode()).hexdigest()) for entry in self.metadata.values()]
        shapes = [(name, shape, type_.name) for name, (shape, type_) in self._tensors.items()]
        return _digest([facts, shapes, [_identity(file.path) for file in self._shards.files]])

    def close(self) -> None:
        self._shards.__exit__(None, None, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class FolderSource:
    """A Hugging Face folder: what the convert step would write, tensor by tensor, without writing it.

    A matrix has the type of its safetensors dtype (F32 for float64 and FP8), so that nothing is rounded. `files`, by
    name, and `weights` are given where they are not all in the folder.
    """

    def __init__(
        self, folder: Path, files: Mapping[str, Path] | None = None, weights: Mapping[str, Weight] | None = None
    ) -> None:
        self.place = str(folder)
        self._files = files or {path.name: path for path in sorted(folder.iterdir()) if path.is_file()}
        self._config = load_config(self._files)
        name = architecture(self._config).name
        found = [kv("general.architecture", name), *facts(self._config, "BF16")]
        self.metadata: Mapping[str, KV] = {entry.key: entry for entry in found}
        self._stack = ExitStack()
        self._weights: Mapping[str, Weight] = (
            self._stack.enter_context(open_weights(self._files)) if weights is None else weights
        )
        try:
            order = sorted(self._weights, key=lambda source: (self._weights[source].file, source))
            specs = tensors(self._config, order)
            for spec in specs:
                check(spec, self._config, self._weights)
        except BaseException:
            self._stack.close()
            raise
        self._specs = {spec.name: (spec, self._type(spec)) for spec in specs}

    def _type(self, spec: TensorSpec) -> Type:
        dtype = self._weights[spec.sources[0]].dtype if spec.sources else "F32"
        return spec.type(dtype if dtype in ("F16", "BF16") else "F32")

    def tensors(self) -> Mapping[str, tuple[tuple[int, ...], Type]]:
        return {name: (spec.shape, type_) for name, (spec, type_) in self._specs.items()}

    def rows(self, name: str, begin: int, end: int) -> NDArray[np.uint8]:
        spec, type_ = self._specs[name]
        if len(spec.shape) == 1:
            begin, end = begin * spec.shape[0], end * spec.shape[0]
        return rows(spec, self._config, self._weights, type_.name, begin, end)

    def gather(self, name: str, ids: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        return np.concatenate([self.rows(name, row, row + 1) for row in ids.tolist()])

    def fingerprint(self) -> str:
        names = {"config.json", *(weight.file for weight in self._weights.values())}
        return _digest([_identity(self._files[name]) for name in sorted(names)])

    def close(self) -> None:
        self._stack.close()


def open_source(path: Path) -> WeightSource:
    """The model in a file or folder; raises what is wrong with it as a QuantmillError of one sentence."""
    return FolderSource(path) if path.is_dir() else GGUFSource(path)


def _identity(path: Path) -> list[Any]:
    status = path.stat()
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, separators=(",", ":")).encode()).hexdigest()
