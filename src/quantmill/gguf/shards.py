"""How a file is cut into shards, known from its description alone: names, metadata, tensors and exact sizes.

The rules are llama-gguf-split's. Only tensors count towards a shard's size, each padded to 32 bytes; the metadata,
which is all in the first shard, does not. A tensor that would take a shard past the limit begins the next one.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from quantmill.gguf.errors import GGUFUsageError, shown
from quantmill.gguf.layout import ALIGNMENT, TensorEntry, TensorInfo, file_size, ggml_shape, padded
from quantmill.gguf.types import ValueType
from quantmill.gguf.values import KV, kv

NO, COUNT, TENSORS = "split.no", "split.count", "split.tensors.count"
MAX_SHARDS = 2**16 - 1  # split.count is a UINT16
_NAME = re.compile(r"(?P<prefix>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)


@dataclass(frozen=True)
class Shard:
    """A shard before it is written: its metadata, its tensors in order and the bytes of the whole file."""

    kvs: tuple[KV, ...]
    tensors: tuple[TensorEntry, ...]
    size: int


def shard_name(prefix: str, number: int, count: int) -> str:
    """The file name of shard `number` (from 1) of `count`."""
    return f"{prefix}-{number:05d}-of-{count:05d}.gguf"


def parse_name(name: str) -> tuple[str, int, int] | None:
    """(prefix, number from 1, count) of a shard's file name; None when it is no shard's."""
    match = _NAME.fullmatch(name)
    return (match["prefix"], int(match["number"]), int(match["count"])) if match else None


def canonical(kvs: Iterable[KV]) -> list[KV]:
    """Entries as llama.cpp's tools copy them, without what an earlier split left behind."""
    return [entry.canonical() for entry in kvs if entry.key not in (NO, COUNT, TENSORS)]


def describe(infos: Iterable[TensorInfo]) -> list[TensorEntry]:
    """Tensors of a file as a writer takes them, with their shapes as llama.cpp's tools write them."""
    return [info.entry._replace(shape=ggml_shape(info.shape)) for info in infos]


def plan_shards(
    kvs: Iterable[KV],
    tensors: Iterable[TensorEntry],
    *,
    max_size: int | None = None,
    max_tensors: int | None = None,
) -> list[Shard]:
    """The shards that llama-gguf-split makes with --split-max-size (in bytes) or --split-max-tensors.

    Raises GGUFUsageError unless exactly one limit is given, and for more shards than GGUF can count. It does too where
    the first tensor alone is beyond the limit: llama-gguf-split fails there, while a later one gets a shard of its
    own.
    """
    if (max_size is None) == (max_tensors is None) or (max_size or max_tensors or 0) < 1:
        raise GGUFUsageError(
            "a split needs one limit, the size or the number of tensors of a shard, and it must be at least 1"
        )
    described = [TensorEntry(name, ggml_shape(shape), type_) for name, shape, type_ in tensors]
    entries_of_all = canonical(kvs)
    groups = _by_size(described, max_size) if max_size else _by_count(described, max_tensors or 1)
    if len(groups) > MAX_SHARDS:
        raise GGUFUsageError(
            f"{len(groups)} shards are more than the {MAX_SHARDS} that GGUF can count; allow larger shards"
        )
    shards = []
    for number, group in enumerate(groups):
        entries = entries_of_all if number == 0 else []
        entries.append(kv(NO, number, ValueType.UINT16))
        # The tool sets the count last of all, and setting a key moves it to the end.
        entries.append(kv(TENSORS, len(described), ValueType.INT32))
        entries.append(kv(COUNT, len(groups), ValueType.UINT16))
        shards.append(Shard(tuple(entries), tuple(group), file_size(entries, group)))
    return shards


def shard_sizes(kvs: Iterable[KV], tensors: Iterable[TensorEntry], max_size: int) -> list[int]:
    """Bytes of the files that the split step makes: one number when the file stays whole, else one for every shard.

    The arguments describe the whole file as it is, or will be, written.
    """
    entries, described = list(kvs), list(tensors)
    whole = file_size(entries, described)
    if whole <= max_size:
        return [whole]
    shards = plan_shards(entries, described, max_size=max_size)
    return [shard.size for shard in shards] if len(shards) > 1 else [whole]


def find_shards(path: Path) -> list[Path] | None:
    """The paths of all shards, there or not, that the name of any one of them implies; None for another name."""
    parsed = parse_name(path.name)
    if parsed is None or not 1 <= parsed[1] <= parsed[2]:
        return None
    prefix, _, count = parsed
    return [path.with_name(shard_name(prefix, number, count)) for number in range(1, count + 1)]


def counted_bytes(entry: TensorEntry) -> int:
    """What the tensor counts towards a shard's size."""
    return padded(TensorInfo(*entry, offset=0).nbytes, ALIGNMENT)


def _by_size(tensors: list[TensorEntry], limit: int) -> list[list[TensorEntry]]:
    groups: list[list[TensorEntry]] = [[]]
    size = 0
    for entry in tensors:
        counted = counted_bytes(entry)
        if size + counted > limit:
            if not groups[-1]:
                raise GGUFUsageError(
                    f"a shard of {limit} bytes cannot hold the first tensor {shown(entry.name)}; allow at least "
                    f"{counted} bytes"
                )
            groups.append([])
            size = 0
        groups[-1].append(entry)
        size += counted
    return groups


def _by_count(tensors: list[TensorEntry], limit: int) -> list[list[TensorEntry]]:
    return [tensors[at : at + limit] for at in range(0, len(tensors), limit)] or [[]]
