"""split and merge: llama-gguf-split's files, byte for byte, for files aligned to 32 as all of llama.cpp's are.

A file with another `general.alignment` differs on purpose: llama-gguf-split copies the key and aligns to 32 all the
same, which makes a file that llama.cpp cannot read. Here the data follows the key.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from quantmill.artifact import silent
from quantmill.errors import apart, listed
from quantmill.gguf.errors import DuplicateTensor, GGUFError, GGUFUsageError, WriteFailed
from quantmill.gguf.layout import TensorEntry, TensorInfo
from quantmill.gguf.reader import GGUFFile, read
from quantmill.gguf.shards import COUNT, NO, TENSORS, describe, find_shards, plan_shards, shard_name
from quantmill.gguf.values import KV, ValueType, kv
from quantmill.gguf.writer import Writer

Progress = Callable[[int, int], None]
_PIECE = 64 << 20  # bytes between two reports of progress


@dataclass(eq=False)
class AlreadySplit(GGUFUsageError):
    place: str
    count: int

    def __str__(self) -> str:
        return f"{self.place}: one of {self.count} shards already; merge them first, then split the whole file"


@dataclass(eq=False)
class NotAShard(GGUFUsageError):
    place: str

    def __str__(self) -> str:
        return f"{self.place}: not a shard; name one that ends in -00001-of-0000N.gguf and has the key split.count"


@dataclass(eq=False)
class OutputExists(GGUFUsageError):
    place: str

    def __str__(self) -> str:
        return f"{self.place}: exists already and is not overwritten; remove it or name another file"


@dataclass(eq=False)
class MissingShards(GGUFError):
    directory: str
    names: tuple[str, ...]
    count: int

    def __str__(self) -> str:
        return (
            f"{self.directory}: {listed(self.names)} of {self.count} shards "
            f"{'is' if len(self.names) == 1 else 'are'} missing; fetch what is missing into the same directory"
        )


@dataclass(eq=False)
class LoneShard(GGUFError):
    place: str
    number: int
    count: int

    def __str__(self) -> str:
        return (
            f"{self.place}: this is shard {self.number} of {self.count} under another name, the others are missing; "
            f"fetch them and name each like model-{self.number:05d}-of-{self.count:05d}.gguf"
        )


@dataclass(eq=False)
class ForeignShard(GGUFError):
    place: str
    key: str
    found: str
    expected: int

    def __str__(self) -> str:
        return (
            f"{self.place}: {self.key} is {self.found} and not {self.expected}; "
            "it was renamed or belongs to another file, fetch all shards of one release"
        )


@dataclass(eq=False)
class WrongTensorTotal(GGUFError):
    place: str
    found: int
    expected: int

    def __str__(self) -> str:
        return (
            f"{self.place}: the shards hold {self.found} tensors and not {self.expected} as they claim; "
            "fetch all shards of one release"
        )


def split(
    path: str | os.PathLike[str],
    out_dir: str | os.PathLike[str],
    prefix: str,
    *,
    max_size: int | None = None,
    max_tensors: int | None = None,
    progress: Progress = silent,
) -> list[Path]:
    """Cuts a GGUF file into shards `prefix-00001-of-0000N.gguf` in `out_dir`; returns their paths in order.

    One limit must be given (see `plan_shards`). Existing files of those names are replaced. When anything fails, no
    shard of this call remains. Raises AlreadySplit for a file that is a shard of several.
    """
    directory = Path(out_dir)
    with read(path) as source:
        count = number_of(source, COUNT)
        if count is not None and count > 1:
            raise AlreadySplit(source.place, count)
        shards = plan_shards(
            source.metadata.values(), describe(source.tensors.values()), max_size=max_size, max_tensors=max_tensors
        )
        _make(directory)
        paths = [directory / shard_name(prefix, number + 1, len(shards)) for number in range(len(shards))]
        apart(paths, [source.path])
        copy = _Copy(progress, sum(shard.size for shard in shards))
        done: list[Path] = []
        try:
            for target, shard in zip(paths, shards, strict=True):
                infos = [source.tensors[name] for name, _, _ in shard.tensors]
                copy.write(target, shard.kvs, shard.tensors, [(source, infos)])
                done.append(target)
        except BaseException:
            for target in done:
                target.unlink(missing_ok=True)
            raise
    return paths


def merge(shard: str | os.PathLike[str], out: str | os.PathLike[str], *, progress: Progress = silent) -> Path:
    """Joins the shards of which `shard` is one (by name) into `out`, which must not exist; returns its path.

    Raises NotAShard, MissingShards, ForeignShard or WrongTensorTotal when the shards are not one whole file.
    """
    target, paths = Path(out), all_shards(Path(shard))
    if paths is None:
        raise NotAShard(str(shard))
    if target.exists():
        raise OutputExists(str(target))
    files: list[GGUFFile] = []
    try:
        for path in paths:
            files.append(read(path))
        check_shards(files)
        tensors = [described for file in files for described in describe(file.tensors.values())]
        entries = _merged(files[0].metadata)
        parts = [(file, list(file.tensors.values())) for file in files]
        _make(target.parent)
        copy = _Copy(progress, sum(file.size for file in files))
        copy.write(target, entries, tensors, parts)
    finally:
        for file in files:
            file.close()
    return target


def all_shards(path: Path) -> list[Path] | None:
    """`find_shards`; raises MissingShards unless all are there."""
    paths = find_shards(path) or []
    if missing := tuple(found.name for found in paths if not found.exists()):
        raise MissingShards(str(path.parent), missing, len(paths))
    return paths or None


def check_shards(files: Sequence[GGUFFile]) -> None:
    """Raises unless `files`, in order, are all the shards of one file."""
    first = files[0]
    if number_of(first, COUNT) is None:
        raise NotAShard(first.place)
    total = number_of(first, TENSORS)
    seen: set[str] = set()
    for number, file in enumerate(files):
        expected = {NO: number, COUNT: len(files), TENSORS: total if total is not None else 0}
        for key, value in expected.items():
            found = number_of(file, key)
            if found != value:
                raise ForeignShard(file.place, key, "missing" if found is None else str(found), value)
        for name in file.tensors:
            if name in seen:
                raise DuplicateTensor(file.place, name)
            seen.add(name)
    if len(seen) != total:
        raise WrongTensorTotal(first.place, len(seen), total or 0)


def _merged(metadata: Mapping[str, KV]) -> list[KV]:
    """llama-gguf-split keeps the keys of the first shard and sets its count to 0, which moves it to the end."""
    entries = [entry.canonical() for entry in metadata.values() if entry.key != COUNT]
    return [*entries, kv(COUNT, 0, ValueType.UINT16)]


def number_of(file: GGUFFile, key: str) -> int | None:
    """The file's entry of that key; None where there is none, or no integer."""
    entry = file.metadata.get(key)
    return entry.value if entry is not None and isinstance(entry.value, int) else None


def _make(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteFailed(str(directory), error.strerror or str(error)) from None


class _Copy:
    """Writes files from parts of others, and reports the bytes of them all."""

    def __init__(self, progress: Progress, total: int) -> None:
        self.progress = progress
        self.total = total
        self.done = 0

    def write(
        self,
        target: Path,
        kvs: Sequence[KV],
        tensors: Sequence[TensorEntry],
        parts: Sequence[tuple[GGUFFile, Sequence[TensorInfo]]],
    ) -> None:
        with Writer(target, kvs, tensors) as writer:
            for source, infos in parts:
                with source.descriptor() as descriptor:
                    for info in infos:
                        self.tensor(writer, descriptor, source.data_offset + info.offset, info.nbytes)
        self.done += writer.written

    def tensor(self, writer: Writer, descriptor: int, offset: int, count: int) -> None:
        for at in range(0, count, _PIECE):
            writer.append_from(descriptor, offset + at, min(_PIECE, count - at))
            self.progress(min(self.done + writer.written, self.total), self.total)
