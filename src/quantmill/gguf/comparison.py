"""diff: in what two GGUF files, or two sets of shards, differ: metadata keys, tensors, types, the first block."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from quantmill.artifact import silent
from quantmill.gguf.errors import shown
from quantmill.gguf.layout import TensorInfo
from quantmill.gguf.reader import GGUFFile, read
from quantmill.gguf.shard_set import shards_of
from quantmill.gguf.shards import COUNT, NO, TENSORS
from quantmill.gguf.types import ValueType
from quantmill.gguf.values import KV

_CHUNK = 8 << 20  # bytes of each file compared at a time
Tensor = tuple[GGUFFile, TensorInfo]


@dataclass(frozen=True)
class Difference:
    """One difference.

    `kind`: "metadata", "tensor" or "bytes"
    `name`: the key's or tensor's
    `what`: in words
    `block`: of tensors that differ in their data alone, the first block that does, counted from 0 within the tensor
    `blocks`: of these tensors, how many blocks differ

    In a type without blocks, each weight counts as a block.
    """

    kind: str
    name: str
    what: str
    block: int | None = None
    blocks: int | None = None

    def __str__(self) -> str:
        return self.what if self.kind == "bytes" else f"{self.kind} {self.name}: {self.what}"


def compare(
    left: str | os.PathLike[str], right: str | os.PathLike[str], *, progress: Callable[[int, int], None] = silent
) -> list[Difference]:
    """Every difference of two GGUF files, in the order of the file; nothing for files of equal bytes.

    When a name is a shard's, all the shards beside it are read as one file, and what splitting adds to the metadata is
    not compared. Raises a GGUFError for a file that cannot be read.
    """
    with _opened(Path(left)) as first, _opened(Path(right)) as second:
        one, other = _tensors(first), _tensors(second)
        split = len(first) > 1 or len(second) > 1
        found = _metadata(first[0].metadata, second[0].metadata, (NO, COUNT, TENSORS) if split else ())
        total, done = sum(info.nbytes for _, info in one.values()), 0
        for name in [*one, *(name for name in other if name not in one)]:
            if difference := _tensor(name, one.get(name), other.get(name)):
                found.append(difference)
            if name in one:
                done += one[name][1].nbytes
                progress(done, total)
        if not found and _order(one) != _order(other):
            found.append(Difference("bytes", "", "the tensors are the same, in another order"))
        if not found and not split:
            found += _bytes(first[0], second[0])
        return found


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[list[GGUFFile]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(read(item)) for item in shards_of(path)]


def _tensors(files: Sequence[GGUFFile]) -> dict[str, Tensor]:
    return {name: (file, info) for file in files for name, info in file.tensors.items()}


def _order(tensors: Mapping[str, Tensor]) -> list[str]:
    return list(tensors)


def _metadata(left: Mapping[str, KV], right: Mapping[str, KV], aside: Sequence[str]) -> list[Difference]:
    found = []
    for key in [*left, *(key for key in right if key not in left)]:
        if key in aside or (what := _entry(left.get(key), right.get(key))) is None:
            continue
        found.append(Difference("metadata", _plain(key), what))
    if not found:
        orders = [[key for key in entries if key not in aside] for entries in (left, right)]
        if orders[0] != orders[1]:
            found.append(Difference("bytes", "", "the metadata is the same, its keys in another order"))
    return found


def _entry(left: KV | None, right: KV | None) -> str | None:
    if left is None or right is None:
        there = left or right
        assert there is not None
        return f"{_value(there)} only in the {'first' if left else 'second'}"
    if (left.type, left.subtype) != (right.type, right.subtype):
        return f"{_type(left)} and {_type(right)}"
    if left.raw == right.raw:
        return None
    if left.subtype is None:
        return f"{_value(left)} and {_value(right)}"
    if len(left) != len(right):
        return f"{len(left)} elements and {len(right)}"
    at, first, second = next(
        (at, a, b) for at, (a, b) in enumerate(zip(_raw(left), _raw(right), strict=True)) if a != b
    )
    return f"element {at} of {len(left)}: {_shown(left.subtype, first)} and {_shown(left.subtype, second)}"


def _raw(entry: KV) -> list[bytes]:
    """An array's elements as stored: NaN equals NaN there, and 0 is not -0."""
    raw, count = entry.raw, len(entry)
    if entry.subtype == ValueType.STRING:
        found, at = [], 8
        for _ in range(count):
            end = at + 8 + int.from_bytes(raw[at : at + 8], "little")
            found.append(raw[at:end])
            at = end
        return found
    size = (len(raw) - 8) // count
    return [raw[begin:end] for begin, end in pairwise(range(8, len(raw) + 1, size))]


def _shown(type_: int, raw: bytes) -> str:
    return _value(KV("", type_, raw))


def _type(entry: KV) -> str:
    name = ValueType(entry.type).name
    return name if entry.subtype is None else f"{name} of {ValueType(entry.subtype).name}"


def _value(entry: KV) -> str:
    if entry.subtype is not None:
        return f"an array of {len(entry)}"
    value: Any = entry.value
    return shown(value) if isinstance(value, str) else repr(value)


def _plain(name: str) -> str:
    return name if name.isprintable() else shown(name)


def _tensor(name: str, left: Tensor | None, right: Tensor | None) -> Difference | None:
    if left is None or right is None:
        return Difference("tensor", _plain(name), f"only in the {'first' if left else 'second'}")
    (one, first), (other, second) = left, right
    if first.shape != second.shape:
        return Difference("tensor", _plain(name), f"the shape {list(first.shape)} and {list(second.shape)}")
    if first.type != second.type:
        return Difference("tensor", _plain(name), f"{first.type.name} and {second.type.name}")
    block, count = _blocks(one, first, other, second)
    if not count:
        return None
    total, unit = first.nbytes // first.type.size, "block" if first.type.block > 1 else "weight"
    what = f"{first.type.name}: {unit} {block} of {total} is the first that differs, {count} in all"
    return Difference("tensor", _plain(name), what, block, count)


def _blocks(one: GGUFFile, first: TensorInfo, other: GGUFFile, second: TensorInfo) -> tuple[int | None, int]:
    """The first block that differs and the number of those that do."""
    import numpy as np

    size, at, count = first.type.size, None, 0
    left, right = one.data(first), other.data(second)
    step = _CHUNK // size * size
    for begin in range(0, first.nbytes, step):
        a, b = left[begin : begin + step], right[begin : begin + step]
        if np.array_equal(a, b):
            continue
        differ = np.flatnonzero((a != b).reshape(-1, size).any(axis=1))
        at = begin // size + int(differ[0]) if at is None else at
        count += len(differ)
    return at, count


def _bytes(left: GGUFFile, right: GGUFFile) -> list[Difference]:
    """What is left where the content is the same: versions, alignment, paddings, bytes after the end."""
    for what in ("version", "alignment", "size"):
        a, b = getattr(left, what), getattr(right, what)
        if a != b:
            return [Difference("bytes", "", f"the content is the same, the {what} {a} and {b}")]
    with left.descriptor() as one, right.descriptor() as other:
        for begin in range(0, left.size, _CHUNK):
            a, b = os.pread(one, _CHUNK, begin), os.pread(other, _CHUNK, begin)
            if a != b:
                at = begin + next(at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
                return [Difference("bytes", "", f"the content is the same, the padding at byte {at} is not")]
    return []
