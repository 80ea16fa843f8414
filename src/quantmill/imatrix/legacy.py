"""The legacy form of imatrix files (`.dat`).

First comes an int32 count of entries. Each has its name (int32 length, bytes), int32 calls, int32 count of values, and
float32 values, which are the mean squared inputs times the calls. Then come int32 chunks, and the calibration file's
name (int32 length, bytes). Source: llama.cpp's imatrix.cpp and quantize.cpp.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from quantmill.imatrix.vectors import Imatrix, ImatrixError, ImatrixUsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Entry:
    """A tensor's entry: `values` are mean squared inputs times `calls`, float32."""

    name: str
    calls: int
    values: "NDArray[np.float32]"


def encode(entries: Iterable[Entry], dataset: bytes, chunks: int) -> bytes:
    """The bytes of a file, entries in the order given."""
    stored = list(entries)
    parts = [struct.pack("<i", len(stored))]
    for entry in stored:
        name = entry.name.encode()
        values = np.ascontiguousarray(entry.values, "<f4")
        parts += [struct.pack("<i", len(name)), name, struct.pack("<ii", entry.calls, values.size), values.tobytes()]
    parts += [struct.pack("<ii", chunks, len(dataset)), dataset]
    return b"".join(parts)


def vectors(place: str, data: bytes) -> Imatrix:
    """A file's means; the last of several entries of one name counts."""
    stored, dataset, chunks = parse(place, data)
    found: dict[str, NDArray[np.float32]] = {}
    for entry in stored:
        # One float32 division a value, as the tool does it; the bytes of a quantized file depend on it.
        with np.errstate(all="ignore"):  # whoever uses it refuses what is not finite
            found[entry.name] = entry.values / np.float32(entry.calls) if entry.calls > 0 else entry.values
    return Imatrix(found, dataset, chunks)


def parse(place: str, data: bytes) -> tuple[list[Entry], bytes, int]:
    """A file as it is stored: its entries in order, the calibration file's name and the number of chunks; ImatrixError
    names what is wrong with it, and `place`."""
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
        raise ImatrixUsageError(f"{place}: not an imatrix: it claims {count} entries in {len(data)} bytes")
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
