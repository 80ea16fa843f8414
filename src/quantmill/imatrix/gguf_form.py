"""The GGUF form of imatrix files, of llama.cpp's tags since summer 2025: for each tensor `<name>.in_sum2`, the sums of
squared inputs, and `<name>.counts`, the rows that were summed, one for each of a mixture's experts.

Source: llama.cpp's imatrix.cpp (pull request 9400).
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from quantmill import gguf
from quantmill.gguf.types import TYPES
from quantmill.imatrix.vectors import Imatrix, ImatrixError, ImatrixUsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAX = 2**31 - 1


@dataclass(frozen=True)
class ImatrixFile:
    """`tensors`: name → sums, float32 (experts or 1, columns), and counts, float32 (experts or 1,); `chunk_size` is 0
    when the file does not say."""

    tensors: Mapping[str, tuple["NDArray[np.float32]", "NDArray[np.float32]"]]
    datasets: tuple[bytes, ...]
    chunks: int
    chunk_size: int


def load(path: str | os.PathLike[str]) -> ImatrixFile:
    """The file as it is stored; ImatrixError names what is wrong with it."""
    with gguf.read(path) as file:
        kinds = {"in_sum2": {}, "counts": {}}  # type: dict[str, dict[str, NDArray[np.float32]]]
        for info in file.tensors.values():
            name, _, kind = info.name.rpartition(".")
            if kind not in kinds or info.type.name != "F32":
                raise ImatrixUsageError(f"{path}: holds {info.name} as {info.type.name}, which no imatrix does")
            kinds[kind][name] = file.data(info).view(np.float32).reshape(-1, info.columns).copy()
        if kinds["in_sum2"].keys() != kinds["counts"].keys() or not kinds["in_sum2"]:
            raise ImatrixUsageError(f"{path}: not an imatrix: it lacks pairs of .in_sum2 and .counts tensors")
        tensors = {}
        for name, sums in kinds["in_sum2"].items():
            counts = kinds["counts"][name].reshape(-1)
            if counts.size != sums.shape[0]:
                raise ImatrixError(f"{path}: {name} has {counts.size} counts for {sums.shape[0]} matrices")
            tensors[name] = (sums, counts)
        entries = {key: entry.value for key, entry in file.metadata.items() if key.startswith("imatrix.")}
        datasets = entries.get("imatrix.datasets", [])
        if not isinstance(datasets, list) or not all(isinstance(name, str) for name in datasets):
            raise ImatrixError(f"{path}: imatrix.datasets is not a list of names; the imatrix is damaged")
        numbers = [entries.get(f"imatrix.chunk_{what}", 0) for what in ("count", "size")]
        for what, number in zip(("count", "size"), numbers, strict=True):
            if not isinstance(number, int) or not 0 <= number <= _MAX:
                raise ImatrixError(f"{path}: imatrix.chunk_{what} is not a count; the imatrix is damaged")
        return ImatrixFile(tensors, tuple(name.encode() for name in datasets), *numbers)


def vectors(path: str | os.PathLike[str]) -> Imatrix:
    """The file's means; an expert that the calibration never reached weighs all columns alike."""
    stored = load(path)
    found = {}
    for name, (sums, counts) in stored.tensors.items():
        reached = counts.reshape(-1, 1) > 0
        with np.errstate(all="ignore"):  # whoever uses it refuses what is not finite
            means = sums / np.where(reached, counts.reshape(-1, 1), 1)
        found[name] = np.where(reached, means, np.float32(1)).reshape(-1)
    return Imatrix(found, stored.datasets[0] if stored.datasets else b"", stored.chunks)


def write(path: Path, stored: ImatrixFile) -> None:
    """Write the file: tensors by name, as upstream; whole or not at all."""
    entries = [
        gguf.kv("general.type", "imatrix"),
        gguf.kv("imatrix.datasets", list(stored.datasets), subtype=gguf.ValueType.STRING),
        gguf.kv("imatrix.chunk_count", stored.chunks, gguf.ValueType.UINT32),
        gguf.kv("imatrix.chunk_size", stored.chunk_size, gguf.ValueType.UINT32),
    ]
    described = []
    arrays: list[NDArray[np.float32]] = []
    for name in sorted(stored.tensors, key=str.encode):
        sums, counts = stored.tensors[name]
        described += [gguf.TensorEntry(f"{name}.in_sum2", _shape(sums.shape), TYPES["F32"])]
        described += [gguf.TensorEntry(f"{name}.counts", _shape((counts.size, 1)), TYPES["F32"])]
        arrays += [sums, counts]
    with gguf.Writer(path, entries, described) as writer:
        for array in arrays:
            writer.append(np.ascontiguousarray(array, np.float32).data)


def _shape(shape: Sequence[int]) -> tuple[int, ...]:
    rows, columns = shape
    return (columns, rows) if rows > 1 else (columns,)
