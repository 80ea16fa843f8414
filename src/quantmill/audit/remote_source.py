"""Files that are elsewhere, in a repository of the Hub or at an address: headers and rows, read by ranges."""

import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import TYPE_CHECKING, Self
from urllib.parse import quote, unquote, urlsplit

import numpy as np

from quantmill.disk import below
from quantmill.errors import QuantmillError, UsageError, listed
from quantmill.gguf.layout import TensorEntry, TensorInfo
from quantmill.gguf.reader import GGUFFile, of_head
from quantmill.gguf.shard_set import check_shards
from quantmill.gguf.shards import parse_name, shard_name
from quantmill.listing import IMATRIX_ENDING

if TYPE_CHECKING:
    from numpy.typing import NDArray

FIRST, MOST = 1 << 16, 64 << 20  # bytes that are asked for at first, and in the end: the largest headers have 20 MB
MOST_FILES = 20_000  # of a repository
MOST_SHARDS = 1000  # whose headers are asked for
CONNECTIONS = 16  # that rows are asked for by, at a time
_REPOSITORY = re.compile(r"([\w.-]+/[\w.-]+)(?:/(.+))?")


@dataclass(frozen=True)
class RemoteFile:
    """A file elsewhere. `fetch(start, count)`: its bytes, and how many it has in all. `sha256`: as the Hub lists it."""

    place: str
    fetch: Callable[[int, int], tuple[bytes, int]]
    sha256: str | None = None

    def header(self, expected: int = 0) -> tuple[GGUFFile, int]:
        """Its header, which may have `expected` bytes, and its size. Raises QuantmillError for a file that is none, or
        does not end in bounds."""
        count = FIRST if expected <= FIRST else min(expected + FIRST, MOST)
        while True:
            data, size = self.fetch(0, count)
            found = of_head(data, self.place, size)
            if found is not None:
                return found, size
            if count >= MOST or len(data) >= size:
                raise QuantmillError(
                    f"{self.place}: its header does not end within the first {len(data)} bytes, as that of any model "
                    "would; it is damaged or hostile, fetch it from elsewhere"
                )
            count *= 4


class RemoteSource:
    """A file elsewhere, or all its shards: what gguf/source.py is of files here.

    Its rows are read by many requests at a time, so that a distant server's delay counts little.
    """

    def __init__(self, name: "str | Sequence[RemoteFile]", expected: int = 0) -> None:
        self._remote = remote_files(name) if isinstance(name, str) else list(name)
        self.files: list[GGUFFile] = []
        self.sizes: list[int] = []
        for remote in self._remote:
            file, size = remote.header(expected)
            self.files.append(file)
            self.sizes.append(size)
            if sum(each.data_offset for each in self.files) > 2 * MOST:
                raise QuantmillError(f"{remote.place}: the headers of the shards before it are larger than any model's")
        if len(self.files) > 1:
            check_shards(self.files)
        self.metadata = self.files[0].metadata
        self._where = {
            info.name: (remote, file.data_offset + info.offset, info)
            for remote, file in zip(self._remote, self.files, strict=True)
            for info in file.tensors.values()
        }
        self._pool = ThreadPoolExecutor(CONNECTIONS)

    @property
    def listed(self) -> list[tuple[str, str | None]]:
        """The files' places, and their digests as the Hub lists them."""
        return [(remote.place, remote.sha256) for remote in self._remote]

    def tensors(self) -> list[TensorEntry]:
        """All tensors."""
        return [info.entry for _, _, info in self._where.values()]

    def info(self, name: str) -> TensorInfo:
        """The tensor's description."""
        return self._where[name][2]

    def read_runs(self, name: str, runs: Iterable[tuple[int, "NDArray[np.uint8]"]]) -> None:
        """Fill each array with the tensor's bytes from a byte on."""
        remote, offset, _ = self._where[name]

        def read(run: tuple[int, "NDArray[np.uint8]"]) -> None:
            start, into = run
            data, _ = remote.fetch(offset + start, len(into))
            if len(data) != len(into):
                raise QuantmillError(
                    f"{remote.place}: it ends within {name}; it was cut short, fetch it from elsewhere"
                )
            into[:] = np.frombuffer(data, np.uint8)

        for _ in self._pool.map(read, runs):
            pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown(cancel_futures=True)


def is_remote(name: str) -> bool:
    """Whether the name is an address, or may be a repository of the Hub."""
    if name.startswith(("http://", "https://")):
        return True
    return _REPOSITORY.fullmatch(name) is not None and not (name.count("/") == 1 and name.endswith(".gguf"))


def remote_files(name: str) -> list[RemoteFile]:
    """A file, or all its shards: of an address, `OWNER/NAME`, or `OWNER/NAME/FILE` of a repository."""
    return _of_address(name) if name.startswith(("http://", "https://")) else _of_repository(name)


def _of_address(url: str) -> list[RemoteFile]:
    from quantmill.network.web import fetch_range

    def fetch(address: str) -> Callable[[int, int], tuple[bytes, int]]:
        return lambda start, count: fetch_range(address, start, count)

    parts = urlsplit(url)
    folder, _, name = parts.path.rpartition("/")
    addresses = [parts._replace(path=f"{folder}/{quote(part)}").geturl() for part in _parts(unquote(name))]
    return [RemoteFile(address, fetch(address)) for address in addresses]


def _of_repository(name: str) -> list[RemoteFile]:
    repo, path = split_name(name)
    repository = HubRepository(repo)
    if path is None:
        firsts = repository.models()
        if len(firsts) != 1:
            right = f"name one of them, as {repo}/{firsts[0]}" if firsts else "name a repository with GGUF files"
            raise UsageError(f"{repo}: it holds {len(firsts)} models ({listed(firsts) or 'no GGUF file'}); {right}")
        path = firsts[0]
    return repository.model(path)


def split_name(name: str) -> tuple[str, str | None]:
    """Repository and file of `OWNER/NAME/FILE`, None for no file. UsageError for what is neither."""
    match = _REPOSITORY.fullmatch(name)
    if match is None:
        raise UsageError(f"{name}: no file, and no repository of the Hub like OWNER/NAME or OWNER/NAME/FILE.gguf")
    return match[1], match[2]


class HubRepository:
    """What a repository of the Hub holds on its main branch: `files` at one `commit`. HubError for what it cannot."""

    def __init__(self, repo: str) -> None:
        from quantmill.network.hub import list_files

        self.repo = repo
        self.commit, files = list_files(repo, "main", recursive=True)
        if len(files) > MOST_FILES:
            raise UsageError(f"{repo}: {len(files)} files are more than the {MOST_FILES} that any release has")
        if odd := next((name for name in files if not below(name)), None):
            raise UsageError(f"{repo}: the Hub lists a file {odd!r}, which is no path; name the file to read")
        self.files = files

    def models(self) -> list[str]:
        """The GGUF files by their names, of shards the first; what calls itself an imatrix is none."""
        names = [name for name in sorted(self.files) if name.endswith(".gguf") and not name.endswith(IMATRIX_ENDING)]
        return [name for name in names if (parse_name(PurePosixPath(name).name) or ("", 1, 1))[1] == 1]

    def model(self, path: str) -> list[RemoteFile]:
        """The file, or all shards of it."""
        folder = PurePosixPath(path).parent
        parts = [(folder / part).as_posix() for part in _parts(PurePosixPath(path).name)]
        if missing := [part for part in parts if part not in self.files]:
            there = listed([name for name in self.files if name.endswith(".gguf")])
            raise UsageError(f"{self.repo}: it has no file {missing[0]}; it has {there or 'no GGUF file'}")

        def fetch(part: str) -> Callable[[int, int], tuple[bytes, int]]:
            read = self.reader(part, exact=False)
            return lambda start, count: (read(start, count), self.files[part].size)

        return [RemoteFile(f"{self.repo}/{part}", fetch(part), self.files[part].sha256) for part in parts]

    def reader(self, name: str, exact: bool = True) -> Callable[[int, int], bytes]:
        """Gives the bytes of a file from one on; where they are to be `exact`, no fewer than asked for."""
        from quantmill.network.hub import fetch_range

        def read(start: int, count: int) -> bytes:
            data = fetch_range(self.repo, name, self.commit, start, count)
            if exact and len(data) != count:
                raise QuantmillError(f"{self.repo}/{name}: it ends early; it was cut short, fetch it from elsewhere")
            return data

        return read

    def small(self, name: str) -> Path:
        """A file that is no weights, in the Hub's own cache."""
        from quantmill.network.hub import fetch_small

        return fetch_small(self.repo, name, self.commit, self.files[name])


def _parts(name: str) -> list[str]:
    """The names of all shards of a file, or its own."""
    shard = parse_name(name)
    if shard is None or not 1 <= shard[1] <= shard[2] or shard[2] == 1:
        return [name]
    if shard[2] > MOST_SHARDS:
        raise UsageError(f"{name}: {shard[2]} shards are more than the {MOST_SHARDS} whose headers are asked for")
    return [shard_name(shard[0], number, shard[2]) for number in range(1, shard[2] + 1)]
