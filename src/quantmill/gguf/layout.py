"""Where everything in a GGUF file is: the header's exact bytes and every tensor's offset.

Nothing here touches tensor data, so a plan knows a file's size before any weight exists.
"""

import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from quantmill.gguf.errors import (
    GGUFError,
    duplicate_key,
    duplicate_tensor,
    invalid_alignment,
    invalid_name,
    invalid_shape,
    shown,
)
from quantmill.gguf.types import Type, ValueType
from quantmill.gguf.values import KV

MAGIC = b"GGUF"
VERSION = 3  # of the files that are written
ALIGNMENT = 32  # where a file has no general.alignment
MAX_ALIGNMENT = 1 << 20  # more than any page; a hostile one would have a file of bytes padded to gigabytes
MAX_DIMS = 4  # ggml.h GGML_MAX_DIMS
MAX_NAME = 63  # bytes: ggml.h GGML_MAX_NAME, which counts the NUL
MAX_ELEMENTS = 2**63 - 1


class TensorEntry(NamedTuple):
    """A tensor as a header lists it, wherever its data are."""

    name: str
    shape: tuple[int, ...]  # in ggml's order: ne0, a row's length, first
    type: Type


@dataclass(frozen=True)
class TensorInfo:
    """A tensor of a file. `shape` is in ggml's order (ne0, a row's length, first); `offset` is in the data section."""

    name: str
    shape: tuple[int, ...]
    type: Type
    offset: int

    @property
    def entry(self) -> TensorEntry:
        """What of it a new file keeps: all but the offset."""
        return TensorEntry(self.name, self.shape, self.type)

    @property
    def n_elements(self) -> int:
        return math.prod(self.shape)

    @property
    def columns(self) -> int:
        """Weights in a row."""
        return self.shape[0] if self.shape else 1

    @property
    def rows(self) -> int:
        return self.n_elements // self.columns

    @property
    def nbytes(self) -> int:
        """Bytes of the data, without the padding that follows it."""
        return self.n_elements // self.type.block * self.type.size


def padded(size: int, alignment: int) -> int:
    """`size` rounded up to a multiple of `alignment`."""
    return -(-size // alignment) * alignment


def ggml_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape as llama.cpp's tools write it: no ones at the end, at least one dimension (ggml_n_dims)."""
    kept = len(shape)
    while kept > 1 and shape[kept - 1] == 1:
        kept -= 1
    return shape[:kept] or (1,)


def check_tensor(place: str, name: str, shape: tuple[int, ...], type_: Type) -> None:
    """Raises what gguf.cpp would refuse in a tensor's description; a dimension of 0, on which it divides, too."""
    size = len(name.encode())
    if size > MAX_NAME:
        raise invalid_name(place, f"a tensor's name of {size} bytes", f"is too long; ggml keeps {MAX_NAME} bytes")
    if "\0" in name:
        raise invalid_name(place, "a tensor's name", "contains a NUL byte; no name may")
    if len(shape) > MAX_DIMS:
        raise invalid_shape(place, name, f"{len(shape)} dimensions", f"at most {MAX_DIMS} are allowed")
    if any(length <= 0 for length in shape):
        raise invalid_shape(place, name, f"the shape {list(shape)}", "every dimension must be at least 1")
    if math.prod(shape) > MAX_ELEMENTS:
        raise invalid_shape(place, name, f"the shape {list(shape)}", "that is more weights than 63 bits can count")
    if (shape[0] if shape else 1) % type_.block:
        raise GGUFError(
            f"{place}: the tensor {shown(name)} has rows of {shape[0] if shape else 1} weights; {type_.name} "
            f"needs a multiple of {type_.block}"
        )


def check_alignment(place: str, entry: KV | None) -> int:
    """The alignment that `general.alignment` asks for; 32 without one."""
    if entry is None:
        return ALIGNMENT
    if entry.type != ValueType.UINT32:
        raise invalid_alignment(place, f"of type {ValueType(entry.type).name}")
    value: int = entry.value
    if value == 0 or value & (value - 1):
        raise invalid_alignment(place, str(value))
    if value > MAX_ALIGNMENT:
        raise invalid_alignment(place, f"{value}, beyond {MAX_ALIGNMENT}")
    return value


def _prepared(place: str, kvs: Iterable[KV], tensors: Iterable[TensorEntry]) -> tuple[list[KV], list[TensorInfo], int]:
    entries: dict[str, KV] = {}
    for entry in kvs:
        if entry.key in entries:
            raise duplicate_key(place, entry.key)
        if not entry.key or "\0" in entry.key:
            raise invalid_name(place, "a key", "is empty or contains a NUL byte; no key may")
        entries[entry.key] = entry
    named = check_alignment(place, entries.get("general.alignment"))
    infos: dict[str, TensorInfo] = {}
    offset = 0
    for name, shape, type_ in tensors:
        if name in infos:
            raise duplicate_tensor(place, name)
        check_tensor(place, name, shape, type_)
        infos[name] = info = TensorInfo(name, tuple(shape), type_, offset)
        offset += padded(info.nbytes, named)
    return list(entries.values()), list(infos.values()), named


def header(
    kvs: Iterable[KV],
    tensors: Iterable[TensorEntry],
    place: str = "a new GGUF file",
) -> tuple[bytes, list[TensorInfo]]:
    """The exact bytes up to the data section, padded, and every tensor with its offset, in the order given.

    Shapes are written as they are given (see `ggml_shape`). The alignment is that of the entries' `general.alignment`,
    else 32. Raises a GGUFError when llama.cpp would refuse the file.
    """
    entries, infos, named = _prepared(place, kvs, tensors)
    parts = [MAGIC, struct.pack("<IQQ", VERSION, len(infos), len(entries))]
    parts += [entry.encode() for entry in entries]
    for info in infos:
        name = info.name.encode()
        parts.append(struct.pack("<Q", len(name)) + name)
        parts.append(struct.pack(f"<I{len(info.shape)}qiQ", len(info.shape), *info.shape, info.type.id, info.offset))
    data = b"".join(parts)
    return data + bytes(padded(len(data), named) - len(data)), infos


def header_size(kvs: Iterable[KV], tensors: Iterable[TensorEntry]) -> int:
    """`len(header(...)[0])`."""
    return len(header(kvs, tensors)[0])


def file_size(kvs: Iterable[KV], tensors: Iterable[TensorEntry]) -> int:
    """Bytes of the whole file: the header, and every tensor padded to the alignment, the last one too."""
    entries, infos, named = _prepared("a new GGUF file", kvs, tensors)
    return header_size(entries, (info.entry for info in infos)) + data_size(infos, named)


def data_size(infos: list[TensorInfo], alignment: int) -> int:
    """Bytes of the data section, the last tensor's padding included."""
    return infos[-1].offset + padded(infos[-1].nbytes, alignment) if infos else 0
