"""A finished release's folder: laid out from the store, seen to be whole, and cleared of what is ours."""

import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantmill.artifact import Artifact
from quantmill.disk import UNFINISHED, below, locked, read_json, read_table
from quantmill.listing import LISTING, SUMS, read_strangers
from quantmill.store.remote.signature import NAME as SIGNATURE
from quantmill.store.remote.signature import STATEMENT, Seal
from quantmill.store.local import Store

BESIDE = (SUMS, STATEMENT, SIGNATURE)  # what is ours beside the listing and its files


@dataclass(frozen=True)
class Tree:
    """The folder of one release.

    `folder`: its path
    `store`: the store whose objects its files are
    `seal`: what signs it
    `signed`: the file that keeps its signature
    `away`: whether the object of a digest is not here because the release's own build published it
    """

    folder: Path
    store: Store
    seal: Seal
    signed: Path
    away: Callable[[str], bool]

    def lay_out(self, inputs: Mapping[str, Artifact], outputs: Mapping[str, Artifact], lock: Path) -> None:
        """Make the folder hold the release step's outputs, and those of its inputs that its listing names, and none
        that an earlier release of ours left. `lock` is the file that keeps others out.

        What is no longer released goes first and the listing comes last, so that whatever is ours is listed at every
        moment in between.
        """
        files = {path: inputs[name] for path, name in _manifest(outputs).items()} | dict(outputs)
        with locked(lock):
            self._remove(_read_listing(self.folder / LISTING) - set(files))
            for folder in {(self.folder / path).parent for path in files}:
                for left in folder.glob(".*.tmp"):
                    if UNFINISHED.fullmatch(left.name):  # of a build that was killed
                        left.unlink()
            for path, artifact in sorted(files.items(), key=lambda item: (item[0] == LISTING, item[0])):
                if self.away(artifact.sha256):  # it is where it was published
                    continue
                if not self._same(f"{self.folder}/{path}", artifact.sha256, artifact.size):
                    self.store.link(artifact, self.folder / path)
            if not self.sealed():
                self.seal.put(self.folder, self.signed)

    def laid_out(self, facts: Mapping[str, Mapping[str, Any]]) -> bool:
        """Whether the folder holds the release whose outputs `facts` are, {output: {sha256, size}}."""
        try:
            listing = read_json(self.store.object_path(facts[LISTING]["sha256"]))["files"]
        except (KeyError, TypeError):  # still at the shared store
            return False
        files = {**{fact["name"]: fact for fact in listing}, **facts}
        return all(
            self._same(f"{self.folder}/{path}", fact["sha256"], fact["size"]) or self.away(fact["sha256"])
            for path, fact in files.items()
        )

    def sealed(self) -> bool:
        """Whether the release is signed as it should be."""
        return self.seal.holds(self.folder, self.signed)

    def remove(self) -> None:
        """Remove the files that are ours, and the folders that this leaves empty."""
        self.signed.unlink(missing_ok=True)
        self._remove({*_read_listing(self.folder / LISTING), *BESIDE})
        self._remove({LISTING})
        _remove_empty(self.folder)

    def _remove(self, paths: set[str]) -> None:
        for path in sorted(paths):
            if (self.folder / path).is_file():
                (self.folder / path).unlink()
            if (self.folder / path).parent != self.folder:
                _remove_empty((self.folder / path).parent)

    def _same(self, path: str, sha256: str, size: int) -> bool:
        """Whether a file of the folder is the object: the same file or, where links are not possible, a copy, which is
        hashed once."""
        try:
            found = os.stat(path)
            if not stat.S_ISREG(found.st_mode) or found.st_size != size:
                return False
            with suppress(FileNotFoundError):  # the object may be at the shared store alone
                if os.path.samestat(found, os.stat(self.store.object_name(sha256))):
                    return True
            return self.store.hints.digest_of(Path(path)) == sha256
        except (FileNotFoundError, NotADirectoryError):
            return False


def published(store: Store, pointers: Path) -> Callable[[str], bool]:
    """Whether the object of a digest is not here because it was let go, and the recipe whose pointers these are has
    published it; what another recipe let go is made again."""
    known: set[str] = set()

    def away(sha256: str) -> bool:
        if not store.is_let_go(sha256):
            return False
        if not known:
            known.add("")
            known.update(sha256 for _, files in _sent(store, pointers) for sha256 in files.values())
        return sha256 in known

    return away


def sent_to(store: Store, pointers: Path, place: str) -> dict[str, str]:
    """Digests by name of the files that the recipe whose pointers these are has sent to a place as they were built."""
    return {name: sha256 for to, files in _sent(store, pointers) if to == place for name, sha256 in files.items()}


def _sent(store: Store, pointers: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """What publish steps say: where they sent files to, and these."""
    for pointer in sorted(pointers.glob("publish/*.json")):
        with suppress(AttributeError, KeyError, TypeError):  # not here, or damaged
            found = read_table(store.object_path(read_table(pointer)["published.json"]["sha256"]))
            yield found["place"], {name: file["sha256"] for name, file in found["files"].items()}


def _manifest(outputs: Mapping[str, Artifact]) -> dict[str, str]:
    """Path in the release folder → name of the release step's input, as release.json lists them."""
    listing = json.loads(outputs[LISTING].path.read_bytes())["files"]
    return {entry["name"]: entry["input"] for entry in listing if "input" in entry}


def _read_listing(path: Path) -> set[str]:
    """The files that a listing in a release folder names. It may have been edited: only names below the folder."""
    try:
        names = [entry["name"] for entry in read_strangers(path)["files"]]
    except (KeyError, TypeError):
        return set()
    return {name for name in names if below(name)}


def _remove_empty(folder: Path) -> None:
    if folder.is_dir() and not os.listdir(folder):
        folder.rmdir()
