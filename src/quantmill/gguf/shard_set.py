"""split and merge: llama-gguf-split's files, byte for byte, for files aligned to 32 as all of llama.cpp's are.

A file with another `general.alignment` differs on purpose: llama-gguf-split copies the key and aligns to 32 all the
same, which makes a file that llama.cpp cannot read. Here the data follows the key.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from quantmill.artifact import silent
from quantmill.errors import apart, listed
from quantmill.gguf.errors import GGUFError, GGUFUsageError, duplicate_tensor, write_failed
from quantmill.gguf.layout import TensorEntry, TensorInfo
from quantmill.gguf.reader import GGUFFile, read
from quantmill.gguf.shards import COUNT, NO, TENSORS, describe, find_shards, plan_shards, shard_name
from quantmill.gguf.types import ValueType
from quantmill.gguf.values import KV, kv
from quantmill.gguf.writer import Writer
from quantmill.output_file import through

Progress = Callable[[int, int], None]
_PIECE = 64 << 20  # bytes between two reports of progress


def not_a_shard(place: str) -> GGUFUsageError:
    return GGUFUsageError(
        f"{place}: not a shard; name one that ends in -00001-of-0000N.gguf and has the key split.count"
    )


def missing_shards(directory: str, names: tuple[str, ...], count: int) -> GGUFError:
    return GGUFError(
        f"{directory}: {listed(names)} of {count} shards "
        f"{'is' if len(names) == 1 else 'are'} missing; fetch what is missing into the same directory"
    )


def lone_shard(place: str, number: int, count: int) -> GGUFError:
    return GGUFError(
        f"{place}: this is shard {number} of {count} under another name, the others are missing; "
        f"fetch them and name each like model-{number:05d}-of-{count:05d}.gguf"
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
    shard of this call remains. Raises GGUFUsageError for a file that is a shard of several.
    """
    directory = Path(out_dir)
    with read(path) as source:
        count = number_of(source, COUNT)
        if count is not None and count > 1:
            raise GGUFUsageError(
                f"{source.place}: one of {count} shards already; merge them first, then split the whole file"
            )
        shards = plan_shards(
            source.metadata.values(), describe(source.tensors.values()), max_size=max_size, max_tensors=max_tensors
        )
        paths = [directory / shard_name(prefix, number + 1, len(shards)) for number in range(len(shards))]
        apart(paths, [source.path])
        copy = _Copy(progress, sum(shard.size for shard in shards))
        with _made(directory):
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
    """Joins the shards of which `shard` is one (by name) into `out`, which must be no file yet; returns its path.

    Raises a GGUFError when the shards are not one whole file.
    """
    target, paths = Path(out), all_shards(Path(shard))
    if paths is None or (len(paths) == 1 and len(find_shards(paths[0]) or []) > 1):
        raise not_a_shard(str(shard))
    if target.exists() and not through(target):
        raise GGUFUsageError(f"{target}: exists already and is not overwritten; remove it or name another file")
    files: list[GGUFFile] = []
    try:
        for path in paths:
            files.append(read(path))
        check_shards(files)
        tensors = [described for file in files for described in describe(file.tensors.values())]
        entries = _merged(files[0].metadata)
        parts = [(file, list(file.tensors.values())) for file in files]
        copy = _Copy(progress, sum(file.size for file in files))
        with _made(target.parent):
            copy.write(target, entries, tensors, parts)
    finally:
        for file in files:
            file.close()
    return target


def all_shards(path: Path) -> list[Path] | None:
    """All shards of the file at `path`, None for a whole one; raises a GGUFError unless all are there."""
    paths = shards_of(path) if find_shards(path) else []
    if missing := tuple(found.name for found in paths if not found.exists()):
        raise missing_shards(str(path.parent), missing, len(paths))
    return paths or None


def shards_of(path: Path) -> list[Path]:
    """The files that make one with the one at `path`: by its name all shards, there or not. A file that says it is
    whole is one by itself, whatever its name, unless another shard by that name is beside it."""
    paths = find_shards(path) or [path]
    if len(paths) > 1 and not any(other.exists() for other in paths if other != path) and is_whole(path):
        return [path]
    return paths


def is_whole(path: Path) -> bool:
    """Whether the file can be read and says that it is no shard of several."""
    try:
        with read(path) as file:
            return (number_of(file, COUNT) or 0) < 2
    except GGUFError:
        return False


def check_shards(files: Sequence[GGUFFile]) -> None:
    """Raises unless `files`, in order, are all the shards of one file."""
    first = files[0]
    if number_of(first, COUNT) is None:
        raise not_a_shard(first.place)
    total = number_of(first, TENSORS)
    seen: set[str] = set()
    for number, file in enumerate(files):
        expected = {NO: number, COUNT: len(files), TENSORS: total if total is not None else 0}
        for key, value in expected.items():
            found = number_of(file, key)
            if found != value:
                raise GGUFError(
                    f"{file.place}: {key} is {'missing' if found is None else str(found)} and not {value}; it was "
                    "renamed or belongs to another file, fetch all shards of one release"
                )
        for name in file.tensors:
            if name in seen:
                raise duplicate_tensor(file.place, name)
            seen.add(name)
    if len(seen) != total:
        raise GGUFError(
            f"{first.place}: the shards hold {len(seen)} tensors and not {total or 0} as they claim; fetch "
            "all shards of one release"
        )


def _merged(metadata: Mapping[str, KV]) -> list[KV]:
    """llama-gguf-split keeps the keys of the first shard and sets its count to 0, which moves it to the end."""
    entries = [entry.canonical() for entry in metadata.values() if entry.key != COUNT]
    return [*entries, kv(COUNT, 0, ValueType.UINT16)]


def number_of(file: GGUFFile, key: str) -> int | None:
    """The file's entry of that key; None where there is none, or no integer."""
    entry = file.metadata.get(key)
    return entry.value if entry is not None and isinstance(entry.value, int) else None


@contextmanager
def _made(directory: Path) -> Iterator[None]:
    """The folder is there; what was made for it is gone again where the work within fails."""
    new = [folder for folder in (directory, *directory.parents) if not folder.exists()]
    try:
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_failed(str(directory), error.strerror or str(error)) from None
        yield
    except BaseException:
        for folder in new:
            with suppress(OSError):
                folder.rmdir()
        raise


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
