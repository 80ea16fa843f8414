"""Importance matrix files: one importance vector a tensor, in the two formats that llama-imatrix has had.

The legacy format (`.dat`, every tag of generation 1): int32 count of entries; for each its name (int32 length, bytes),
int32 calls, int32 count of values, float32 values, which are the mean squared inputs times the calls; then int32
chunks, and the calibration file's name (int32 length, bytes). The GGUF form of later tags holds `<name>.in_sum2` and
`<name>.counts`. Source: llama.cpp's imatrix.cpp and quantize.cpp.
"""

import os
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from quantmill.errors import QuantmillError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAX = 2**31 - 1


class ImatrixError(QuantmillError):
    """An imatrix file is damaged, or holds what no quantizer can use."""


@dataclass(frozen=True)
class Imatrix:
    """`vectors` are float32, one value a column, a mixture's experts one after another; means, not sums.

    `dataset` is the calibration file's name as the file holds it (bytes, since it is a path), empty when it has none;
    `chunks` is 0 when the file does not say.
    """

    vectors: Mapping[str, "NDArray[np.float32]"]
    dataset: bytes = b""
    chunks: int = 0

    def select(self, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> "Imatrix":
        """Without the tensors whose names contain one of `exclude`; given `include`, only those that contain one."""
        include, exclude = list(include), list(exclude)
        kept = {
            name: vector
            for name, vector in self.vectors.items()
            if not any(part in name for part in exclude) and (not include or any(part in name for part in include))
        }
        return Imatrix(kept, self.dataset, self.chunks)


@dataclass(frozen=True)
class Entry:
    """A tensor's entry of the legacy format: `values` are mean squared inputs times `calls`, float32."""

    name: str
    calls: int
    values: "NDArray[np.float32]"


def read(path: str | os.PathLike[str]) -> Imatrix:
    """The imatrix in the file, whichever format it has; ImatrixError names what is wrong with it.

    A later entry of the same name replaces an earlier one. Values must be finite and not negative; lengths are the
    caller's to judge.
    """
    try:
        with open(path, "rb") as file:
            is_gguf = file.read(4) == b"GGUF"
        found = _from_gguf(path) if is_gguf else _from_legacy(str(path), Path(path).read_bytes())
    except OSError as error:
        raise ImatrixError(f"{path}: cannot be read ({error.strerror}); name an existing imatrix file") from None
    for name, vector in found.vectors.items():
        if not np.isfinite(vector).all():
            raise ImatrixError(f"{path}: the importance vector of {name} is not finite; compute the imatrix anew")
        if (vector < 0).any():  # a kernel's searches need weights of one sign
            raise ImatrixError(
                f"{path}: the importance vector of {name} has a negative value, which no sum of squares is; "
                "compute the imatrix anew"
            )
    return found


def entries(path: str | os.PathLike[str]) -> tuple[list[Entry], bytes, int]:
    """A legacy file as it is stored: its entries in order, the calibration file's name and the number of chunks."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ImatrixError(f"{path}: cannot be read ({error.strerror}); name an existing imatrix file") from None
    return _parse(str(path), data)


def encode(entries: Iterable[Entry], dataset: bytes, chunks: int) -> bytes:
    """The bytes of a legacy file, entries in the order given."""
    stored = list(entries)
    parts = [struct.pack("<i", len(stored))]
    for entry in stored:
        name = entry.name.encode()
        values = np.ascontiguousarray(entry.values, "<f4")
        parts += [struct.pack("<i", len(name)), name, struct.pack("<ii", entry.calls, values.size), values.tobytes()]
    parts += [struct.pack("<ii", chunks, len(dataset)), dataset]
    return b"".join(parts)


def _from_legacy(place: str, data: bytes) -> Imatrix:
    stored, dataset, chunks = _parse(place, data)
    vectors: dict[str, NDArray[np.float32]] = {}
    for entry in stored:
        # One float32 division a value, as the tool does it; the bytes of a quantized file depend on it.
        with np.errstate(all="ignore"):  # `read` refuses what is not finite
            vectors[entry.name] = entry.values / np.float32(entry.calls) if entry.calls > 0 else entry.values
    return Imatrix(vectors, dataset, chunks)


def _parse(place: str, data: bytes) -> tuple[list[Entry], bytes, int]:
    at = 0

    def integer(what: str) -> int:
        nonlocal at
        if at + 4 > len(data):
            raise ImatrixError(f"{place}: ends inside {what}; the imatrix was cut short, compute or fetch it anew")
        at += 4
        return int(struct.unpack_from("<i", data, at - 4)[0])

    def take(count: int, least: int, size: int, what: str) -> bytes:
        nonlocal at
        if not least <= count <= (len(data) - at) // size:
            raise ImatrixError(
                f"{place}: {what} claims a length of {count}, which the file cannot hold; compute it anew"
            )
        at += count * size
        return data[at - count * size : at]

    count = integer("the number of entries")
    if not 1 <= count <= len(data) // 12:
        raise ImatrixError(f"{place}: not an imatrix: it claims {count} entries in {len(data)} bytes")
    found = []
    for number in range(1, count + 1):
        what = f"entry {number} of {count}"
        raw = take(integer(what), 1, 1, f"the name of {what}").split(b"\0")[0]
        try:
            name = raw.decode()
        except UnicodeDecodeError:
            raise ImatrixError(f"{place}: the name of {what} is not UTF-8; the imatrix is damaged") from None
        calls = integer(what)
        values = np.frombuffer(take(integer(what), 1, 4, what), "<f4").astype(np.float32, copy=False)
        found.append(Entry(name, calls, values))
    if at == len(data):
        return found, b"", 0  # early files end here
    chunks = integer("the number of chunks")
    dataset = take(integer("the calibration file's name"), 0, 1, "the calibration file's name")
    return found, dataset.split(b"\0")[0], max(chunks, 0)


def _from_gguf(path: str | os.PathLike[str]) -> Imatrix:
    from quantmill import gguf

    with gguf.read(path) as file:
        kinds = {"in_sum2": {}, "counts": {}}  # type: dict[str, dict[str, NDArray[np.float32]]]
        for info in file.tensors.values():
            name, _, kind = info.name.rpartition(".")
            if kind not in kinds or info.type.name != "F32":
                raise ImatrixError(f"{path}: holds {info.name} as {info.type.name}, which no imatrix does")
            kinds[kind][name] = file.data(info).view(np.float32).reshape(-1, info.columns).copy()
        if kinds["in_sum2"].keys() != kinds["counts"].keys() or not kinds["in_sum2"]:
            raise ImatrixError(f"{path}: not an imatrix: it lacks pairs of .in_sum2 and .counts tensors")
        vectors = {}
        for name, sums in kinds["in_sum2"].items():
            counts = kinds["counts"][name].reshape(-1, 1)
            if counts.shape[0] != sums.shape[0]:
                raise ImatrixError(f"{path}: {name} has {counts.shape[0]} counts for {sums.shape[0]} matrices")
            reached = counts > 0  # an expert that the calibration never reached weighs all columns alike
            with np.errstate(all="ignore"):  # `read` refuses what is not finite
                means = sums / np.where(reached, counts, 1)
            vectors[name] = np.where(reached, means, np.float32(1)).reshape(-1)
        entries = file.metadata
        datasets = entries["imatrix.datasets"].value if "imatrix.datasets" in entries else []
        chunks = entries["imatrix.chunk_count"].value if "imatrix.chunk_count" in entries else 0
        if not isinstance(datasets, list) or not all(isinstance(name, str) for name in datasets):
            raise ImatrixError(f"{path}: imatrix.datasets is not a list of names; the imatrix is damaged")
        if not isinstance(chunks, int) or not 0 <= chunks <= _MAX:
            raise ImatrixError(f"{path}: imatrix.chunk_count is not a count; the imatrix is damaged")
        return Imatrix(vectors, datasets[0].encode() if datasets else b"", chunks)
