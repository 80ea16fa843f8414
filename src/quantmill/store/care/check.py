"""`cache verify`: hash every object, and put away what is not what its name says."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from quantmill.artifact import silent
from quantmill.disk import locked, names_in, sha256_file
from quantmill.store.care.inventory import objects, read_record
from quantmill.store.local import Store


@dataclass(frozen=True)
class StoreCheck:
    """How much was hashed, what was damaged, and what was made of that.

    `damaged`: objects and records, which are below `quarantine/` now
    `undone`: records that were removed, for they were made of damaged objects
    """

    objects: int
    bytes: int
    damaged: tuple[str, ...]
    undone: tuple[str, ...] = ()


def verify_store(store: Store, threads: int = 1, progress: Callable[[int, int], None] = silent) -> StoreCheck:
    """Hash every object and read every record; what is wrong is moved to `quarantine/`, and the next build makes it
    again."""
    paths = list(objects(store))
    total, done, damaged = 0, 0, []
    for path in paths:
        with suppress(FileNotFoundError):
            total += path.stat().st_size

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(done, total)

    def whole(path: Path) -> bool:
        try:
            return sha256_file(path, advance) == path.name
        except FileNotFoundError:  # collected meanwhile
            return True

    with ThreadPoolExecutor(threads) as pool:
        for path, right in zip(paths, pool.map(whole, paths), strict=True):
            if not right:
                damaged.append(path)
    undone = [name for path in damaged for name in store.undo(path.name)]
    for name in names_in(store.root / "ac"):
        path = store.root / "ac" / name
        if read_record(path) is None and path.exists():
            damaged.append(path)
    for path in damaged:
        _quarantine(store, path)
    names = tuple(f"{path.parent.name}/{path.name}" for path in damaged)
    return StoreCheck(len(paths), total, names, tuple(undone))


def _quarantine(store: Store, path: Path) -> None:
    folder = store.root / "quarantine"
    folder.mkdir(exist_ok=True)
    with locked(store.root / "lock" / "gc"), suppress(FileNotFoundError):
        os.replace(path, folder / path.name)
