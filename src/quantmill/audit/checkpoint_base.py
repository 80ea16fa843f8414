"""A base in Hugging Face layout, in a folder or a repository of the Hub: what converting it gives, by rows."""

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np

from quantmill.audit.remote_source import CONNECTIONS, HubRepository
from quantmill.checkpoint.file_names import INDEX
from quantmill.checkpoint.metadata import metadata
from quantmill.checkpoint.safetensors import Weight, WeightsError, read_header, read_index
from quantmill.engine.weight_source import FolderSource
from quantmill.errors import QuantmillError
from quantmill.gguf.layout import TensorEntry, TensorInfo
from quantmill.gguf.values import KV
from quantmill.listing import UnfitJSON
from quantmill.reference.reference import Reference
from quantmill.reference.spans import offered

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]
    Fetch = Callable[[int, int], bytes]


MOST_SMALL, MOST_NAMES = 500_000_000, 2000  # bytes beside the weights, and files, of a model


class CheckpointBase:
    """The tensors of a checkpoint under GGUF's names, in the types of its own dtypes, and the metadata of its
    conversion.

    A context manager. `files` are the model's by name; `weights` those that are elsewhere, whose rows are then
    fetched by many requests at a time.
    """

    def __init__(self, place: str, files: Mapping[str, Path], weights: Mapping[str, Weight] | None = None) -> None:
        self.place, self.files = place, files
        self._source = FolderSource(Path(place), files, weights)
        self._infos = {
            name: TensorInfo(name, shape, type_, 0) for name, (shape, type_) in self._source.tensors().items()
        }
        self._pool = ThreadPoolExecutor(CONNECTIONS) if weights is not None else None
        self._converted: list[Mapping[str, KV]] = []
        self.problem = ""

    @property
    def metadata(self) -> Mapping[str, KV]:
        return self._source.metadata

    def conversions(self) -> Iterator[Mapping[str, KV]]:
        """The metadata that converters write, the newest first: each that differs once. None where ours makes no
        file of the model; `problem` says why."""
        converters: list[Reference] = []
        for reference in reversed(offered()):
            if all(reference.converter is not known.converter for known in converters):
                converters.append(reference)
        for number, reference in enumerate(converters):
            if number == len(self._converted):
                try:
                    name = self.place.rstrip("/").rpartition("/")[2] or "base"
                    entries = metadata(self.files, name=name, reference=reference)
                except QuantmillError as error:
                    self.problem = self.problem or str(error)
                    entries = []
                self._converted.append({entry.key: entry for entry in entries})
            if found := self._converted[number]:
                yield found

    def tensors(self) -> list[TensorEntry]:
        return [info.entry for info in self._infos.values()]

    def info(self, name: str) -> TensorInfo:
        return self._infos[name]

    def read_runs(self, name: str, runs: "Iterable[tuple[int, Bytes]]") -> None:
        info = self._infos[name]
        size = info.type.row_bytes(info.columns)

        def read(run: "tuple[int, Bytes]") -> None:
            start, into = run
            into[:] = self._source.rows(name, start // size, (start + len(into)) // size)

        for _ in self._pool.map(read, runs) if self._pool else map(read, runs):
            pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)
        self._source.close()


def of_hub(repository: HubRepository, names: Iterable[str]) -> CheckpointBase:
    """The checkpoint in a repository whose files `names` are: small ones are fetched, of weights the headers."""
    from quantmill.recipe.hub_heads import fetch_heads

    names = list(names)
    small = sum(repository.files[name].size for name in names if not name.endswith(".safetensors"))
    if small > MOST_SMALL or len(names) > MOST_NAMES:
        raise WeightsError(
            f"it has {len(names)} files, and {small} bytes beside the weights, which no model has; name another base"
        )
    heads = [name for name in names if name.endswith(".safetensors")]
    files = {name: repository.small(name) for name in names if name not in heads}
    weights: dict[str, Weight] = {}
    with TemporaryDirectory(prefix="quantmill-") as folder:
        found = fetch_heads(repository.repo, repository.commit, heads, repository.files, Path(folder))
        if lost := [name for name in heads if name not in found]:
            raise WeightsError(f"{lost[0]}: it is too large to be read by parts; download it")
        for name, path in found.items():
            try:
                described = read_header(path, name)
            except (UnfitJSON, ValueError, struct.error):
                raise WeightsError(f"{name}: it has no header of a safetensors file; name another base") from None
            for weight in described.values():
                if weight.name in weights:
                    raise WeightsError(
                        f"{weight.name} is in {weights[weight.name].file} and in {name}; name another base"
                    )
                weights[weight.name] = replace(weight, data=cast("Bytes", _Elsewhere(repository.reader(name), weight)))
    if INDEX in files and (lost := sorted(read_index(files[INDEX]).keys() - weights.keys())):
        raise WeightsError(f"{INDEX}: it names the tensor {lost[0]}, which no file has; name another base")
    return CheckpointBase(repository.repo, {**files, **dict.fromkeys(heads, Path(repository.repo))}, weights)


class _Elsewhere:
    """The values of a tensor elsewhere: as much of an array as checkpoint/weights.py takes rows from, fetched then."""

    def __init__(self, fetch: "Fetch", weight: Weight, dtype: str = "<u1", columns: int = 1) -> None:
        self._fetch, self._weight, self._dtype, self._columns = fetch, weight, np.dtype(dtype), columns

    def view(self, dtype: str) -> "_Elsewhere":
        return _Elsewhere(self._fetch, self._weight, dtype, self._columns)

    def reshape(self, _: int, columns: int) -> "_Elsewhere":
        return _Elsewhere(self._fetch, self._weight, self._dtype.str, columns)

    def __len__(self) -> int:
        return int(np.prod(self._weight.shape, dtype=np.int64)) // self._columns

    def __getitem__(self, rows: "slice | NDArray[np.intp]") -> "NDArray[Any]":
        if isinstance(rows, slice):
            return self._rows(*rows.indices(len(self))[:2])
        ends = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
        runs = [self._rows(int(rows[a]), int(rows[b - 1]) + 1) for a, b in pairwise(ends)]
        return np.concatenate(runs)

    def _rows(self, begin: int, end: int) -> "NDArray[Any]":
        size = self._columns * self._dtype.itemsize
        data = self._fetch(self._weight.start + begin * size, (end - begin) * size)
        return np.frombuffer(data, self._dtype).reshape(-1, self._columns)
