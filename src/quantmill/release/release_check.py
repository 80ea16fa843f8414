"""A release's folder as its reader checks it: every file that its statement and its listing name, and no other tale."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from quantmill.artifact import silent
from quantmill.disk import below, sha256_file
from quantmill.errors import QuantmillError, UsageError
from quantmill.gguf.shards import parse_name
from quantmill.gguf.verification import verify_files, wrong_digest
from quantmill.listing import IMATRIX_ENDING, LISTING, read_strangers
from quantmill.store.remote.signature import STATEMENT


def not_a_release(tree: Path, problem: str) -> UsageError:
    """A folder has nothing by which its files could be checked."""
    return UsageError(f"{tree}: {problem}; name the folder of a whole release, or its GGUF files")


@dataclass(frozen=True)
class FileCheck:
    """One file, or all shards of one, under the first's name: what is wrong, if anything is."""

    name: str
    size: int
    sha256: str
    problem: QuantmillError | None = None


def check_release(tree: Path, progress: Callable[[int, int], None] = silent) -> Iterator[FileCheck]:
    """Every file that the statement in `tree` names, by name: there, of its digest, a GGUF file whole to its last
    block. The listing must name the same. Raises UsageError."""
    digests = _subjects(tree)
    listed = _listed(tree)
    if odd := sorted(name for name, sha256 in listed.items() if digests.get(name) != sha256):
        raise not_a_release(tree, f"{LISTING} and {STATEMENT} differ in {odd[0]}")
    for names in _together(digests):
        yield _check(tree, names, digests, progress)


def _check(tree: Path, names: list[str], digests: Mapping[str, str], progress: Callable[[int, int], None]) -> FileCheck:
    paths = {name: tree / name for name in names}
    try:
        for path in paths.values():
            if not path.is_file():
                raise QuantmillError(f"{path}: it is missing; fetch it into the release's folder")
        size = sum(path.stat().st_size for path in paths.values())
        if names[0].endswith(".gguf") and not names[0].endswith(IMATRIX_ENDING):
            verify_files(paths, digests=digests, progress=progress)
        elif (found := sha256_file(tree / names[0])) != digests[names[0]]:
            raise wrong_digest(str(tree / names[0]), found, digests[names[0]])
        return FileCheck(names[0], size, digests[names[0]])
    except QuantmillError as error:
        return FileCheck(names[0], 0, digests[names[0]], error)


def _together(digests: Mapping[str, str]) -> list[list[str]]:
    """The names, all shards of one file together."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name in sorted(digests):
        path = PurePosixPath(name)
        parsed = parse_name(path.name)
        key = (str(path.parent), parsed[0], str(parsed[2])) if parsed else (name,)
        groups.setdefault(key, []).append(name)
    return list(groups.values())


def _subjects(tree: Path) -> dict[str, str]:
    data = read_strangers(tree / STATEMENT)
    try:
        found = {_plain(entry["name"]): str(entry["digest"]["sha256"]) for entry in data["subject"]}
    except (KeyError, TypeError, ValueError):
        raise not_a_release(tree, f"it has no {STATEMENT} that tells its files' digests") from None
    return found


def _listed(tree: Path) -> dict[str, str]:
    data = read_strangers(tree / LISTING)
    try:
        return {_plain(entry["name"]): str(entry["sha256"]) for entry in data["files"]}
    except (KeyError, TypeError, ValueError):
        raise not_a_release(tree, f"it has no {LISTING} that tells its files' digests") from None


def _plain(name: Any) -> str:
    if not below(name):
        raise ValueError(name)
    return name
