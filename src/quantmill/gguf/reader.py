"""Reading a GGUF file: validate everything at the edge, then map.

Nothing in a file is believed before it was compared with the file's size, and nothing is allocated from a claimed
count. The rules are those of gguf.cpp, so what is read here can be read there.
"""

import contextlib
import mmap
import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Self

from quantmill.disk import AGE
from quantmill.gguf import errors
from quantmill.gguf.errors import shown
from quantmill.gguf.foreign import describe
from quantmill.gguf.layout import MAGIC, MAX_DIMS, TensorEntry, TensorInfo, check_alignment, check_tensor, padded
from quantmill.gguf.types import BY_ID, ValueType
from quantmill.gguf.values import KV, SIZES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# What a header may hold: keys, tensors, items of all arrays together, and bytes. Models have up to 1,000 keys, 50,000
# tensors, 1.3 million items and 15 MB; in memory a header takes ten times its bytes, and a whole file can be one.
MAX_KEYS, MAX_TENSORS, MAX_ITEMS, MAX_HEADER = 1 << 16, 1 << 18, 1 << 22, 1 << 28
_KV_LEAST = 8 + 1 + 4 + 1  # bytes: the length of the key, a key, a type, a value
_HEADS = (1 << 16, 64 << 20)  # bytes that are looked at of a file within a file: a later shard's header is small
_TENSOR_LEAST = 8 + 4 + 4 + 8  # the length of the name, the number of dimensions, the type, the offset


class GGUFFile:
    """A validated, mapped GGUF file, with its facts as they were when `read` looked at it.

    `metadata`: in the file's order
    `tensors`: in the file's order
    `data_end`: where the last tensor's data ends, without padding
    `padded_end`: where it ends with padding
    `size`: the file's, at least `data_end`
    """

    def __init__(
        self,
        path: Path,
        place: str,
        mapping: mmap.mmap | bytes,
        identity: tuple[int, ...],
        version: int,
        alignment: int,
        metadata: dict[str, KV],
        tensors: dict[str, TensorInfo],
        data_offset: int,
    ) -> None:
        self.path = path
        self.place = place
        self.size = len(mapping)
        self.version = version
        self.alignment = alignment
        self.metadata: Mapping[str, KV] = MappingProxyType(metadata)
        self.tensors: Mapping[str, TensorInfo] = MappingProxyType(tensors)
        self.data_offset = data_offset
        self.data_end = self.padded_end = data_offset
        if tensors:
            last = next(reversed(tensors.values()))
            self.data_end = data_offset + last.offset + last.nbytes
            self.padded_end = data_offset + last.offset + padded(last.nbytes, alignment)
        self._mapping = mapping
        self._identity = identity

    def tensor_entries(self) -> list[TensorEntry]:
        """All tensors, in the file's order."""
        return [info.entry for info in self.tensors.values()]

    def data(self, info: TensorInfo) -> "NDArray[np.uint8]":
        """A read-only view of the tensor's bytes, one-dimensional. It stays valid after `close`."""
        import numpy as np

        return np.frombuffer(self._mapping, np.uint8, info.nbytes, self.data_offset + info.offset)

    @contextlib.contextmanager
    def descriptor(self) -> Iterator[int]:
        """The file opened once more, for `Writer.append_from`; a GGUFError when it is not the file that was read."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise errors.unreadable(self.place, error.strerror or str(error)) from None
        try:
            if _identity(descriptor) != self._identity:
                raise errors.changed(self.place)
            yield descriptor
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Lets go of the mapping; it lives on as long as views of it do."""
        with contextlib.suppress(BufferError):
            if isinstance(self._mapping, mmap.mmap):
                self._mapping.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def read(path: str | os.PathLike[str], place: str | None = None) -> GGUFFile:
    """Opens a GGUF file of version 2 or 3, little-endian; raises a GGUFError that names what is wrong with it.

    Checked are every count and length against the file's size, value types, keys and tensor names (unique, UTF-8),
    every string's UTF-8, alignment, shapes and whole blocks. So are offsets (aligned, gapless, in order, as gguf.cpp
    wants them), and that the file holds the data of every tensor. Whether it ends right there is `verify`'s business.
    Tensor data is not looked at. `place` is the file's name in messages, where it differs from the path.
    """
    place = place or str(path)
    try:
        with open(path, "rb") as file:
            identity = _identity(file.fileno())
            if not identity[0]:
                raise errors.not_gguf(place, describe(b""))
            mapping = mmap.mmap(file.fileno(), identity[0], access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise errors.unreadable(place, getattr(error, "strerror", None) or str(error)) from None
    try:
        return _Reader(mapping, place).file(Path(path), identity)
    except BaseException:
        mapping.close()
        raise


def within(file: GGUFFile, start: int) -> GGUFFile:
    """The GGUF file that begins at byte `start` of a mapped one, where `cat` put it: its facts alone, no data. Raises a
    GGUFError as `read` does; what it says of the place is of the whole file."""
    left = file.size - start
    for length in _HEADS:
        try:
            return _Reader(file._mapping[start : start + length], file.place, left).file(file.path, file._identity)
        except (errors.GGUFError, struct.error) as error:
            if length >= left or length == _HEADS[-1]:
                if isinstance(error, errors.GGUFError):
                    raise
                break
    raise errors.truncated_header(file.place, file.size, "a header behind the first file")


def of_head(data: bytes, place: str, size: int) -> GGUFFile | None:
    """The facts of a file of `size` bytes that begins with `data`, and none of its tensors' data; None where its header
    may not end within `data`. Raises a GGUFError as `read` does."""
    reader = _Reader(data, place, size)
    try:
        file = reader.file(Path(place), (size, 0, 0, 0))
    except (errors.GGUFError, struct.error):
        if len(data) < size and data.startswith(MAGIC):
            return None
        raise
    return file if reader.at <= len(data) else None


def _identity(descriptor: int) -> tuple[int, ...]:
    """Size, device, inode and modification time. An object of a store is sealed anew when a build takes it, which
    changes nothing of it: whoever reads one in a build looks at its seal (build/reading.py)."""
    status = os.fstat(descriptor)
    moment = 0 if status.st_mtime_ns < status.st_ctime_ns - AGE // 2 else status.st_mtime_ns
    return status.st_size, status.st_dev, status.st_ino, moment


class _Reader:
    """A position in a mapped file, and the checks that move it."""

    def __init__(self, mapping: mmap.mmap | bytes, place: str, size: int | None = None) -> None:
        self.mapping = mapping
        self.size = len(mapping) if size is None else size
        self.place = place
        self.at = 0
        self.items = 0  # of the arrays so far

    def file(self, path: Path, identity: tuple[int, ...]) -> GGUFFile:
        version, n_tensors, n_kvs = self.preamble()
        metadata: dict[str, KV] = {}
        for number in range(n_kvs):
            entry = self.entry(f"key {number + 1} of {n_kvs}")
            if entry.key in metadata:
                raise errors.duplicate_key(self.place, entry.key)
            metadata[entry.key] = entry
        alignment = check_alignment(self.place, metadata.get("general.alignment"))
        tensors: dict[str, TensorInfo] = {}
        for number in range(n_tensors):
            info = self.tensor(f"the description of tensor {number + 1} of {n_tensors}")
            if info.name in tensors:
                raise errors.duplicate_tensor(self.place, info.name)
            tensors[info.name] = info
        self.check_offsets(list(tensors.values()), alignment)
        # A file without tensors may end before the padding: llama.cpp's own vocabulary files do.
        data_offset = padded(self.at, alignment) if tensors else min(padded(self.at, alignment), self.size)
        file = GGUFFile(path, self.place, self.mapping, identity, version, alignment, metadata, tensors, data_offset)
        if file.data_end > self.size:
            raise errors.truncated(self.place, self.size, file.padded_end)
        return file

    def preamble(self) -> tuple[int, int, int]:
        start = self.mapping[:512]
        if not start.startswith(MAGIC):
            raise errors.not_gguf(self.place, describe(start))
        self.at = 4
        (version,) = self.unpack("<I", "the version")
        if version in (0x02000000, 0x03000000):
            raise errors.GGUFError(
                f"{self.place}: a big-endian GGUF file; only little-endian ones are supported, convert it to one first"
            )
        if version not in (2, 3):
            raise errors.GGUFError(
                f"{self.place}: GGUF version {version} is not supported; versions 2 and 3 are, convert the model anew"
            )
        n_tensors, n_kvs = self.unpack("<QQ", "the counts of tensors and keys")
        self.check_count("the number of tensors", n_tensors, _TENSOR_LEAST)
        self.check_count("the number of keys", n_kvs, _KV_LEAST)
        if n_tensors > MAX_TENSORS:
            raise errors.beyond(self.place, "the tensors", n_tensors, MAX_TENSORS)
        if n_kvs > MAX_KEYS:
            raise errors.beyond(self.place, "the keys", n_kvs, MAX_KEYS)
        return version, n_tensors, n_kvs

    def unpack(self, layout: str, what: str) -> tuple[int, ...]:
        end = self.at + struct.calcsize(layout)
        if end > self.size:
            raise errors.truncated_header(self.place, self.size, what)
        values = struct.unpack_from(layout, self.mapping, self.at)
        self.at = end
        return values

    def check_count(self, what: str, count: int, least: int) -> None:
        if count * least > self.size - self.at:
            raise errors.impossible_count(self.place, what, count, self.size)
        if self.at + count * least > MAX_HEADER:
            raise errors.beyond(self.place, "the bytes of the header", self.at + count * least, MAX_HEADER)

    def text(self, what: str) -> str:
        (length,) = self.unpack("<Q", what)
        self.check_count(f"the length of {what}", length, 1)
        try:
            text = self.mapping[self.at : self.at + length].decode()
        except UnicodeDecodeError:
            raise errors.invalid_text(self.place, what) from None
        self.at += length
        return text

    def entry(self, what: str) -> KV:
        key = self.text(what)
        if not key or "\0" in key:
            raise errors.invalid_name(self.place, what, "is empty or contains a NUL byte; no key may")
        what = f"the key {shown(key)}"
        (type_,) = self.unpack("<i", what)
        if type_ != ValueType.ARRAY:
            return KV(key, type_, self.scalar(key, type_, what))
        subtype, count = self.unpack("<iQ", what)
        if subtype == ValueType.ARRAY:
            raise errors.GGUFError(
                f"{self.place}: the key {shown(key)} is an array of arrays; llama.cpp reads flat arrays only"
            )
        least = 8 if subtype == ValueType.STRING else self.value_size(key, subtype)
        self.check_count(f"the array of {what}", count, least)
        self.items += count
        if self.items > MAX_ITEMS:
            raise errors.beyond(self.place, f"the items of arrays up to {what}", self.items, MAX_ITEMS)
        start = self.at - 8
        if subtype == ValueType.STRING:
            self.strings(count, f"a string of {what}")
        else:
            self.at += count * least
        return KV(key, type_, self.mapping[start : self.at], subtype)

    def value_size(self, key: str, type_: int) -> int:
        size = SIZES.get(type_)  # type: ignore[call-overload]  # an IntEnum's keys are found by plain ints
        if size is None:
            raise errors.GGUFError(
                f"{self.place}: the key {shown(key)} has the unknown value type {type_}; GGUF has types 0 to 12"
            )
        return int(size)

    def scalar(self, key: str, type_: int, what: str) -> bytes:
        start = self.at
        if type_ == ValueType.STRING:
            self.text(f"the string of {what}")
        else:
            self.at += self.value_size(key, type_)
            if self.at > self.size:
                raise errors.truncated_header(self.place, self.size, what)
        return self.mapping[start : self.at]

    def strings(self, count: int, what: str) -> None:
        """Walks over an array of strings, the one loop here that runs hundreds of thousands of times."""
        mapping, size, at, length_of = self.mapping, self.size, self.at, struct.Struct("<Q").unpack_from
        for _ in range(count):
            if at + 8 > size:
                raise errors.truncated_header(self.place, size, what)
            start = at + 8
            at = start + length_of(mapping, at)[0]
            if at > size:
                raise errors.impossible_count(self.place, f"the length of {what}", at - start, size)
            if at > MAX_HEADER:
                raise errors.beyond(self.place, "the bytes of the header", at, MAX_HEADER)
            try:
                mapping[start:at].decode()
            except UnicodeDecodeError:
                raise errors.invalid_text(self.place, what) from None
        self.at = at

    def tensor(self, what: str) -> TensorInfo:
        name = self.text(what)
        what = f"the description of the tensor {shown(name)}"
        (n_dims,) = self.unpack("<I", what)
        if n_dims > MAX_DIMS:
            raise errors.invalid_shape(self.place, name, f"{n_dims} dimensions", f"at most {MAX_DIMS} are allowed")
        shape = self.unpack(f"<{n_dims}q", what)
        type_id, offset = self.unpack("<iQ", what)
        type_ = BY_ID.get(type_id)
        if type_ is None:
            raise errors.unknown_type(self.place, name, type_id)
        check_tensor(self.place, name, shape, type_)
        return TensorInfo(name, shape, type_, offset)

    def check_offsets(self, tensors: list[TensorInfo], alignment: int) -> None:
        """Every tensor must begin where the padding of the one before it ends; the first at 0."""
        expected, before = 0, ""
        for info in tensors:
            if info.offset % alignment:
                raise errors.GGUFError(
                    f"{self.place}: the tensor {shown(info.name)} is at offset {info.offset}; offsets must be "
                    f"multiples of {alignment}"
                )
            if info.offset < expected:
                raise errors.GGUFError(
                    f"{self.place}: the tensors {shown(before)} and {shown(info.name)} overlap; each must begin where "
                    "the one before it ends"
                )
            if info.offset > expected:
                raise errors.GGUFError(
                    f"{self.place}: the tensor {shown(info.name)} is at offset {info.offset}; the one before it ends "
                    f"at {expected} and llama.cpp allows no gap"
                )
            expected, before = expected + padded(info.nbytes, alignment), info.name
