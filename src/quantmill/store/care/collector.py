"""`cache gc`: remove what nobody needs, beside builds that are running.

A build that is running has a locked file below `live/`, and touches everything that it takes or makes. A record's time
moves when a build takes it, an object's change time when it enters or a new record is about to name it. So what was
touched since the eldest running build began stays; the touch and the removal exclude each other by `lock/gc`.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from quantmill.disk import UNFINISHED, is_digest, locked, names_in, read_table, unless_locked
from quantmill.store.care.inventory import (
    Marks,
    Record,
    live_since,
    objects,
    pointed_at,
    read_record,
    records,
    released,
    roots,
)
from quantmill.store.local import Store

DAY = 86_400 * 10**9  # ns
RESUMED = 7 * DAY  # for how long a broken transfer is kept, to go on with it
MEMO = 90 * DAY  # for how long the digest of a file outside is remembered


@dataclass(frozen=True)
class Keep:
    """What stays: what pointers name, what release folders hold, and what was used within `age` ns (None: anything,
    whenever it was used)."""

    pointers: bool = True
    releases: bool = True
    age: int | None = 30 * DAY


@dataclass
class CollectionReport:
    """What was removed, or would be: records, objects and their bytes, and what killed processes left."""

    records: int = 0
    objects: int = 0
    bytes: int = 0
    leftovers: int = 0
    kept_bytes: int = 0


def collect(store: Store, keep: Keep, limit: int | None = None, dry: bool = False) -> CollectionReport:
    """Remove the records that nothing keeps, then the objects that no record and nobody else needs. With `limit`, in
    bytes, the records used longest ago go too until the rest fits, but none that pointers, releases or a running build
    keep. With `dry` only count."""
    gone = CollectionReport()
    now = _now(store)
    cutoff = min(live_since(store) or now, now)
    marks = _marks(store, keep)
    doomed = _choose(list(records(store)), marks, cutoff, None if keep.age is None else now - keep.age, limit)
    for record in doomed:
        gone.records += dry or _remove_record(store, record)
    left = {record.name for record in doomed} if dry else set()
    needed = marks.objects.union(*(record.objects for record in records(store) if record.name not in left))
    with _batches(store) as step:
        for path in objects(store):
            step()
            with suppress(FileNotFoundError):
                stat = path.stat()
                if path.name in needed or stat.st_ctime_ns >= cutoff:
                    gone.kept_bytes += stat.st_size
                    continue
                gone.objects, gone.bytes = gone.objects + 1, gone.bytes + stat.st_size
                if not dry:
                    path.unlink()
    gone.leftovers = sum(1 for _ in _sweep(store, cutoff, now, dry))
    return gone


def _now(store: Store) -> int:
    """The time by the clock that stamps this store's files."""
    path = store.root / "lock" / "gc"
    with locked(path):
        os.utime(path)
        return path.stat().st_mtime_ns


def _marks(store: Store, keep: Keep) -> Marks:
    marks = Marks(records=set(names_in(store.root / "outbox")))
    for wanted, find in ((keep.pointers, pointed_at), (keep.releases, released)):
        if wanted:
            found = find(store)
            marks.records |= found.records
            marks.objects |= found.objects
    return marks


def _choose(found: list[Record], marks: Marks, cutoff: int, oldest: int | None, limit: int | None) -> list[Record]:
    """The records to go: those used longest ago first. One whose objects all stay anyway stays too: it costs nothing,
    and a pointer may be its without a note that says so, where two keys came to the same bytes."""
    held = {
        record.name
        for record in found
        if record.name in marks.records or record.used >= cutoff or record.objects.keys() <= marks.objects
    }
    free = [record for record in found if record.name not in held]
    free.sort(key=lambda record: (record.used, record.name))
    doomed = [record for record in free if oldest is not None and record.used < oldest]
    if limit is None:
        return doomed
    users: dict[str, int] = {}
    sizes: dict[str, int] = {}
    gone = {record.name for record in doomed}
    kept = [record for record in found if record.name not in gone]
    for record in kept:
        for sha256, size in record.objects.items():
            users[sha256], sizes[sha256] = users.get(sha256, 0) + 1, size
    total = sum(sizes.values())
    for record in free[len(doomed) :]:
        if total <= limit:
            break
        doomed.append(record)
        for sha256 in record.objects:
            users[sha256] -= 1
            if not users[sha256] and sha256 not in marks.objects:
                total -= sizes[sha256]
    return doomed


def _remove_record(store: Store, record: Record) -> bool:
    path = store.root / "ac" / record.name
    with locked(store.root / "lock" / "gc"):
        found = read_record(path)
        if found is None or found.used != record.used:  # a build has just taken it
            return False
        path.unlink()
        return True


@contextmanager
def _batches(store: Store) -> Iterator[Callable[[], None]]:
    """Holds `lock/gc` while objects are removed, and lets builds through now and then."""
    count = 0
    lock = locked(store.root / "lock" / "gc")
    lock.__enter__()

    def step() -> None:
        nonlocal count, lock
        count += 1
        if count % 64 == 0:
            lock.__exit__(None, None, None)
            lock = locked(store.root / "lock" / "gc")
            lock.__enter__()

    try:
        yield step
    finally:
        lock.__exit__(None, None, None)


def _sweep(store: Store, cutoff: int, now: int, dry: bool) -> Iterator[Path]:
    """Remove what killed processes left and what lost its meaning; yields each."""
    for path in _unused(store, now):
        yield path
        if not dry:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    for path in _old(store, cutoff, now):
        yield path
        if not dry:
            path.unlink(missing_ok=True)


def _unused(store: Store, now: int) -> Iterator[Path]:
    """Folders of steps and parts of transfers that nobody works on; each stays locked while it is looked at."""
    for folder in ("work", "part"):
        for name in names_in(store.root / folder):
            path = store.root / folder / name
            with suppress(FileNotFoundError):
                resumed = folder == "part" or (path / ".part").is_dir()
                if resumed and path.stat().st_mtime_ns > now - RESUMED:
                    continue
                with unless_locked(store.root / "lock" / name.removesuffix(".done")) as free:
                    if free:
                        yield path


def _old(store: Store, cutoff: int, now: int) -> Iterator[Path]:
    for path in _beside(store):
        with suppress(FileNotFoundError):  # a link to an object keeps the times of its seal
            if path.lstat().st_ctime_ns < cutoff:
                yield path
    for path in _files(store.root / "memo"):
        if _before(path, now - MEMO):
            yield path
    for path in _files(store.root / "span"):
        found = read_table(path).get("object")
        if not is_digest(found) or not store.object_path(found).exists():
            yield path
    named = {sha256 for record in records(store) for sha256 in record.objects}
    yield from (path for path in _files(store.root / "away") if path.name not in named)
    for path in _files(store.root / "lock"):
        if path.name != "gc" and _before(path, cutoff) and not (store.root / "ac" / path.name).exists():
            with suppress(FileNotFoundError), unless_locked(path) as free:
                if free:
                    yield path
    wanted = {json.dumps([str(build), str(release)]) for build, release in roots(store)}
    for path in _files(store.root / "roots"):
        data = read_table(path)
        if json.dumps([data.get("build"), data.get("release")]) not in wanted:
            yield path


def _beside(store: Store) -> Iterator[Path]:
    """What was written beside a name that it never got: in the store, but where steps and transfers work, and among the
    pointers and releases of its builds."""
    for top in [store.root, *(folder for places in roots(store) for folder in places)]:
        for place, folders, names in os.walk(top):
            if Path(place) == store.root:
                folders[:] = [name for name in folders if name not in ("work", "part")]
            yield from (Path(place, name) for name in names if UNFINISHED.fullmatch(name))


def _files(folder: Path) -> Iterable[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]


def _before(path: Path, moment: int) -> bool:
    try:
        return path.stat().st_mtime_ns < moment
    except FileNotFoundError:
        return False
