"""`cache verify`: hash every object, and put away what is not what its name says."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from quantmill.artifact import silent
from quantmill.disk import locked, sha256_file
from quantmill.store.care.inventory import names, objects, read_record
from quantmill.store.local import Store


@dataclass(frozen=True)
class StoreCheck:
    """How much was hashed, and the names of objects and records that were damaged and are below `quarantine/` now."""

    objects: int
    bytes: int
    damaged: tuple[str, ...]


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
    for name in names(store.root / "ac"):
        path = store.root / "ac" / name
        if read_record(path) is None and path.exists():
            damaged.append(path)
    for path in damaged:
        _quarantine(store, path)
    return StoreCheck(len(paths), total, tuple(f"{path.parent.name}/{path.name}" for path in damaged))


def _quarantine(store: Store, path: Path) -> None:
    folder = store.root / "quarantine"
    folder.mkdir(exist_ok=True)
    with locked(store.root / "lock" / "gc"), suppress(FileNotFoundError):
        os.replace(path, folder / path.name)
