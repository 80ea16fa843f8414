"""Headers of files that are elsewhere, a repository of the Hub or an address, read by ranges of their first bytes."""

import re
from collections.abc import Callable
from pathlib import PurePosixPath
from urllib.parse import quote, unquote, urlsplit

from quantmill.errors import QuantmillError, UsageError, listed
from quantmill.gguf.reader import GGUFFile, of_head
from quantmill.gguf.shard_set import check_shards
from quantmill.gguf.shards import parse_name, shard_name
from quantmill.listing import IMATRIX_ENDING

FIRST, MOST = 1 << 20, 64 << 20  # bytes that are asked for at first, and in the end: the largest headers have 20 MB
MOST_SHARDS = 1000  # whose headers are asked for
_REPOSITORY = re.compile(r"([\w.-]+/[\w.-]+)(?:/(.+))?")

Header = tuple[GGUFFile, int]  # with the size of the whole file


def is_remote(name: str) -> bool:
    """Whether the name is an address, or may be a repository of the Hub."""
    return name.startswith(("http://", "https://")) or _REPOSITORY.fullmatch(name) is not None


def read_headers(name: str) -> list[Header]:
    """The header of a file, or of all its shards: an address, `OWNER/NAME`, or `OWNER/NAME/FILE` of a repository."""
    found = _of_address(name) if name.startswith(("http://", "https://")) else _of_repository(name)
    if len(found) > 1:
        check_shards([file for file, _ in found])
    return found


def _of_address(url: str) -> list[Header]:
    from quantmill.network.web import fetch_head

    parts = urlsplit(url)
    folder, _, name = parts.path.rpartition("/")
    addresses = [parts._replace(path=f"{folder}/{quote(part)}").geturl() for part in _parts(unquote(name))]
    return [_header(address, lambda count, at=address: fetch_head(at, count)) for address in addresses]  # type: ignore[misc]


def _of_repository(name: str) -> list[Header]:
    from quantmill.network.hub import fetch_head, list_files

    match = _REPOSITORY.fullmatch(name)
    if match is None:
        raise UsageError(f"{name}: no file, and no repository of the Hub like OWNER/NAME or OWNER/NAME/FILE.gguf")
    repo, path = match[1], match[2]
    commit, files = list_files(repo, "main", recursive=True)
    models = [each for each in files if each.endswith(".gguf") and not each.endswith(IMATRIX_ENDING)]
    firsts = [each for each in models if (parse_name(PurePosixPath(each).name) or ("", 1, 1))[1] == 1]
    if path is None:
        if len(firsts) != 1:
            right = f"name one of them, as {repo}/{firsts[0]}" if firsts else "name a repository with GGUF files"
            raise UsageError(f"{repo}: it holds {len(firsts)} models ({listed(firsts) or 'no GGUF file'}); {right}")
        path = firsts[0]
    folder = PurePosixPath(path).parent
    parts = [(folder / part).as_posix() for part in _parts(PurePosixPath(path).name)]
    if missing := [part for part in parts if part not in files]:
        raise UsageError(f"{repo}: it has no file {missing[0]}; it has {listed(models) or 'no GGUF file'}")

    def ask(part: str) -> Callable[[int], tuple[bytes, int]]:
        return lambda count: (fetch_head(repo, part, commit, count), files[part].size)

    return [_header(f"{repo}/{part}", ask(part)) for part in parts]


def _parts(name: str) -> list[str]:
    """The names of all shards of a file, or its own."""
    shard = parse_name(name)
    if shard is None or not 1 <= shard[1] <= shard[2] or shard[2] == 1:
        return [name]
    if shard[2] > MOST_SHARDS:
        raise UsageError(f"{name}: {shard[2]} shards are more than the {MOST_SHARDS} whose headers are asked for")
    return [shard_name(shard[0], number, shard[2]) for number in range(1, shard[2] + 1)]


def _header(place: str, ask: Callable[[int], tuple[bytes, int]]) -> Header:
    count = FIRST
    while True:
        data, size = ask(count)
        found = of_head(data, place, size)
        if found is not None:
            return found, size
        if count >= MOST or len(data) >= size:
            raise QuantmillError(
                f"{place}: its header does not end within the first {len(data)} bytes, as that of any model would; "
                "it is damaged or hostile, fetch it from elsewhere"
            )
        count *= 4
