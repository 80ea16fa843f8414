"""verify: is a finished file, or a set of shards, what it should be, down to every block's scale?"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantmill.artifact import silent
from quantmill.gguf.errors import GGUFError, changed, shown, truncated, unreadable
from quantmill.gguf.foreign import describe
from quantmill.gguf.layout import MAGIC, TensorEntry, TensorInfo
from quantmill.gguf.reader import GGUFFile, read, within
from quantmill.gguf.shard_set import check_shards, is_whole, lone_shard, missing_shards, number_of, shards_of
from quantmill.gguf.shards import COUNT, NO, find_shards, parse_name, shard_name
from quantmill.gguf.token_facts import Known, TokenFacts
from quantmill.gguf.values import KV

if TYPE_CHECKING:
    from hashlib import _Hash

MOST = 1000  # files that are looked for in one
LISTED = 12  # of the files in one, how many a message names
CONTROLS = (".aria2", ".st")  # of aria2c and axel
_ROWS = "token_embd.weight"
_CHUNK = 8 << 20  # bytes in memory at a time


@dataclass(eq=False)
class BrokenBlock(GGUFError):
    """`block` counts from 0 within the tensor; for a type without blocks it is the weight."""

    place: str
    tensor: str
    type: str
    field: str
    block: int
    blocks: int

    def __str__(self) -> str:
        where = f"weight {self.block}" if self.field == "weight" else f"the scale {self.field} of block {self.block}"
        return (
            f"{self.place}: the tensor {shown(self.tensor)} ({self.type}): {where} of {self.blocks} is infinite or no "
            "number; fetch the file again, or make it anew from a base whose weights are finite"
        )


def wrong_digest(place: str, found: str, expected: str) -> GGUFError:
    return GGUFError(f"{place}: its sha256 is {found} and not {expected}; it was damaged, fetch or make it anew")


@dataclass(frozen=True)
class VerifiedFile:
    name: str
    size: int
    sha256: str
    tensors: int


@dataclass(frozen=True)
class VerifyReport:
    """What was found whole: the files in order, and the number of tensors of every type."""

    files: tuple[VerifiedFile, ...]
    types: Mapping[str, int]
    types_checked: bool  # against those that were expected

    def to_json(self) -> dict[str, Any]:
        """The same for the same bytes and names: no path, no time."""
        files = [vars(file) for file in self.files]
        size = sum(file.size for file in self.files)
        tensors = sum(file.tensors for file in self.files)
        return {
            "files": files,
            "planned": self.types_checked,
            "size": size,
            "tensors": tensors,
            "types": dict(self.types),
        }


def verify(
    path: str | os.PathLike[str],
    expected: Mapping[str, str] | None = None,
    *,
    progress: Callable[[int, int], None] = silent,
) -> VerifyReport:
    """Verifies a GGUF file; when its name is a shard's, all the shards beside it.

    Raises the GGUFError of the first thing that is wrong, else returns a VerifyReport. Checked are all that `read`
    checks, that the file ends where its last tensor's padding ends, the shards' completeness, a vocabulary that
    llama.cpp loads (see `token_facts`), and every block's scales (see `scales`). So is the type of every tensor against
    `expected` (name → type name, for exactly the tensors there). One pass over the bytes, in bounded memory, gives the
    sha256 too.
    """
    path = Path(path)
    return verify_files({item.name: item for item in shards_of(path)}, expected, progress=progress)


def verify_files(
    files: Mapping[str, Path],
    expected: Mapping[str, str] | None = None,
    *,
    digests: Mapping[str, str] | None = None,
    known: Known | None = None,
    progress: Callable[[int, int], None] = silent,
) -> VerifyReport:
    """`verify` for files that are kept under other paths than their names; `digests` are their expected sha256.
    `known`, where given, is all that the names in the vocabulary may be.

    Several files must be all the shards of one, by name.
    """
    paths = _ordered(files)
    opened: list[GGUFFile] = []
    try:
        for name, path in paths.items():
            # The name where the path does not end in it, as in a store of objects named by digest.
            opened.append(read(path, str(path) if path.name == Path(name).name else name))
            _check_finished(path, opened[-1].place)
        _check_completeness(opened)
        _check_types(opened, expected)
        check_tokens(opened, known)
        total, done = sum(file.size for file in opened), 0
        verified = []
        for name, file in zip(paths, opened, strict=True):
            sha256 = _Pass(file, done, total, progress).run()
            if digests is not None and sha256 != digests[name]:
                raise wrong_digest(file.place, sha256, digests[name])
            verified.append(VerifiedFile(Path(name).name, file.size, sha256, len(file.tensors)))
            done += file.size
    finally:
        for file in opened:
            file.close()
    types = Counter(info.type.name for file in opened for info in file.tensors.values())
    return VerifyReport(tuple(verified), dict(sorted(types.items())), expected is not None)


def headers(paths: Iterable[Path]) -> tuple[dict[str, KV], list[TensorEntry]]:
    """The metadata and all tensors of a file, or of the shards of one, in any order."""
    metadata: dict[str, KV] = {}
    tensors: list[TensorEntry] = []
    for path in paths:
        with read(path) as file:
            metadata |= file.metadata
            tensors += file.tensor_entries()
    return metadata, tensors


def _ordered(files: Mapping[str, Path]) -> dict[str, Path]:
    """The files in the order of their shards; raises a GGUFError when some are not there."""
    first = min(files)
    wanted = find_shards(Path(first))
    if wanted is None:
        return dict(files)
    found = {Path(name).name: name for name in files}
    missing = tuple(item.name for item in wanted if item.name not in found or not files[found[item.name]].exists())
    if missing and len(files) == 1 and is_whole(files[first]):
        return dict(files)
    if missing:
        raise missing_shards(str(files[first].parent), missing, len(wanted))
    return {found[item.name]: files[found[item.name]] for item in wanted}


def _check_finished(path: Path, place: str) -> None:
    """Some programs give a file its whole size at the start of a download, with a file of their own beside it."""
    for ending in CONTROLS:
        if (control := path.with_name(path.name + ending)).exists():
            raise GGUFError(
                f"{place}: its download is not finished, for {control.name} is beside it; start the download again"
            )


def _check_completeness(files: list[GGUFFile]) -> None:
    for file in files:
        if file.size < file.padded_end and file.tensors:
            raise truncated(file.place, file.size, file.padded_end)
        if file.size > file.padded_end:
            raise _trailing(file)
    count = number_of(files[0], COUNT) or 0
    if len(files) == 1 and count > 1 and find_shards(Path(files[0].place)) is None:
        raise lone_shard(files[0].place, (number_of(files[0], NO) or 0) + 1, count)
    if len(files) > 1 or count != 0:
        check_shards(files)


def _trailing(file: GGUFFile) -> GGUFError:
    """What follows the end of a file: another, which `cat` put there, or what a server sent in place of the rest."""
    with file.descriptor() as descriptor:
        start = os.pread(descriptor, 512, file.padded_end)
    if start.startswith(MAGIC):
        return _concatenated(file.place, max(number_of(file, COUNT) or 0, 1), tuple(_held(file)))
    found = describe(start).partition(";")[0] if start.lstrip()[:1] in (b"<", b"{") else ""
    what = f"{file.size - file.padded_end} bytes follow the last tensor{f' ({found})' if found else ''}"
    return GGUFError(f"{file.place}: {what}; a whole file ends there, fetch or make it anew")


def _concatenated(place: str, shards: int, found: Sequence[tuple[str, int]]) -> GGUFError:
    """`found` are the files in it, in order, by what they call themselves and their bytes; `shards` is what the first
    says of their number, 1 for a whole file."""
    parts = [f"{name} ({size} bytes)" for name, size in found]
    held = ", ".join(parts if len(parts) <= LISTED else [*parts[: LISTED - 1], f"and {len(parts) - LISTED + 1} more"])
    if shards == 1:
        return GGUFError(
            f"{place}: another GGUF file follows the last tensor, as `cat` leaves them, it holds {held}; "
            "fetch the file anew"
        )
    return GGUFError(
        f"{place}: a shard of {shards} with others behind it, as `cat` leaves them, which is no model, "
        f"it holds {held}; fetch the shards, and give llama.cpp the first or join them with `quantmill merge`"
    )


def _held(file: GGUFFile) -> Iterator[tuple[str, int]]:
    """The files that lie in one, one behind the other: shards by the names they had, as far as that can be known."""
    name = Path(file.place).name
    parsed = parse_name(name)
    prefix = parsed[0] if parsed else name.removesuffix(".gguf")
    part, start, number = file, 0, 1
    while True:
        count = number_of(part, COUNT) or 0
        title = shard_name(prefix, (number_of(part, NO) or 0) + 1, count) if count > 1 else f"file {number}"
        yield title, min(part.padded_end, file.size - start)
        start, number = start + part.padded_end, number + 1
        if start >= file.size or number > MOST:
            return
        try:
            part = within(file, start)
        except GGUFError:
            yield "a part that is cut short or no GGUF file", file.size - start
            return


def _check_types(files: list[GGUFFile], expected: Mapping[str, str] | None) -> None:
    if expected is None:
        return
    there = set()
    for file in files:
        for info in file.tensors.values():
            if info.name not in expected:
                raise GGUFError(
                    f"{file.place}: the tensor {shown(info.name)} was not planned; make the file anew from the "
                    "planned base"
                )
            if info.type.name != expected[info.name]:
                what = f"the tensor {shown(info.name)} is {info.type.name} and not {expected[info.name]}"
                raise GGUFError(f"{file.place}: {what}, as was planned; make the file anew")
            there.add(info.name)
    if lost := sorted(expected.keys() - there):
        raise GGUFError(f"{files[0].place}: the planned tensor {shown(lost[0])} is not there; make the file anew")


def check_tokens(files: Sequence[GGUFFile], known: Known | None) -> list[str]:
    """What is odd of the vocabulary of a whole file or of all shards; whether there must be one is not known here.

    Raises a GGUFError for what llama.cpp does not load, and for names that are not `known`."""
    rows = next((file.tensors[_ROWS].shape[-1] for file in files if _ROWS in file.tensors), None)
    tokens, place = TokenFacts(files[0].metadata, rows), files[0].place
    if not tokens.present():
        return []
    if (problem := next(tokens.refused(), None)) is not None:
        raise GGUFError(f"{place}: {problem}, so that llama.cpp does not load it; make it anew from a whole tokenizer")
    if known is not None and (problem := tokens.unknown(known)) is not None:
        raise GGUFError(f"{place}: {problem}, and does not load it; make it anew with one that it knows")
    return list(tokens.doubted())


class _Pass:
    """One pass over a file from its first byte to its last: what is hashed is what was checked."""

    def __init__(self, file: GGUFFile, before: int, total: int, progress: Callable[[int, int], None]) -> None:
        self.file = file
        self.before = before
        self.total = total
        self.progress = progress
        self.hash: _Hash = hashlib.sha256()
        self.buffer = memoryview(bytearray(min(_CHUNK, file.size)))
        self.at = 0

    def run(self) -> str:
        with self.file.descriptor() as descriptor:
            for info in self.file.tensors.values():
                self.skip(descriptor, self.file.data_offset + info.offset)
                self.tensor(descriptor, info)
            self.skip(descriptor, self.file.size)
        return self.hash.hexdigest()

    def skip(self, descriptor: int, until: int) -> None:
        """Hashes the header or padding up to `until`."""
        while self.at < until:
            self.take(descriptor, min(until - self.at, _CHUNK))

    def tensor(self, descriptor: int, info: TensorInfo) -> None:
        import numpy as np

        from quantmill.gguf.scales import first_broken

        blocks, size = info.nbytes // info.type.size, info.type.size
        step = _CHUNK // size
        for begin in range(0, blocks, step):
            data = np.frombuffer(self.take(descriptor, min(step, blocks - begin) * size), np.uint8)
            if broken := first_broken(info.type, data):
                block, field = broken
                raise BrokenBlock(self.file.place, info.name, info.type.name, field, begin + block, blocks)

    def take(self, descriptor: int, count: int) -> memoryview:
        view = self.buffer[:count]
        filled = 0
        while filled < count:
            try:
                got = os.preadv(descriptor, [view[filled:]], self.at + filled)
            except OSError as error:
                raise unreadable(self.file.place, error.strerror or str(error)) from None
            if not got:
                raise changed(self.file.place)
            filled += got
        self.hash.update(view)
        self.at += count
        self.progress(self.before + self.at, self.total)
        return view
