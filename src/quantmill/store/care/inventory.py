"""What a store holds: records with what they name and when they were used, and who needs them."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from quantmill.disk import files_below, names_in, parse_json, read_small, sha256_file, unless_locked
from quantmill.listing import LISTING, SUMS, parse_strangers
from quantmill.store.key import StepKey
from quantmill.store.local import Store
from quantmill.store.record import are_facts, decode
from quantmill.store.remote.signature import STATEMENT

NOT_THERE = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


@dataclass(frozen=True)
class Record:
    """An action record. `used` is when a build last took it, in ns; `objects` maps sha256 to bytes; `shared`: it was
    taken from a shared store."""

    name: str
    used: int
    step: str
    task: str
    objects: Mapping[str, int]
    shared: bool


@dataclass
class Marks:
    """What somebody needs: digests of keys, and of objects."""

    records: set[str] = field(default_factory=set)
    objects: set[str] = field(default_factory=set)


def records(store: Store) -> Iterator[Record]:
    """Every record that can be read."""
    for name in names_in(store.root / "ac"):
        if record := read_record(store.root / "ac" / name):
            yield record


def read_record(path: Path) -> Record | None:
    """The record at a path, None where it is damaged or gone."""
    try:
        used, data = path.stat().st_mtime_ns, decode(path.name, path.read_bytes())
    except NOT_THERE:
        return None
    if data is None:
        return None
    objects = {fact["sha256"]: fact["size"] for fact in data["outputs"].values()}
    return Record(path.name, used, data["key"]["step"], data.get("task", ""), objects, "origin" in data)


def objects(store: Store) -> Iterator[Path]:
    """Every object."""
    for folder in names_in(store.root / "cas"):
        for name in names_in(store.root / "cas" / folder):
            yield store.root / "cas" / folder / name


def pointed_at(store: Store) -> Marks:
    """What the pointers of the builds need that use this store, and what waits to be sent."""
    marks = Marks(records=set(names_in(store.root / "outbox")))
    for build, _ in roots(store):
        for path in files_below(build, ".json"):
            if are_facts(facts := parse_json(_read(path))):
                marks.objects |= {fact["sha256"] for fact in facts.values()}
        for path in files_below(build, ".key"):
            with suppress(TypeError, ValueError, RecursionError):
                marks.records.add(StepKey(**parse_json(_read(path))).digest())
    return marks


def released(store: Store) -> Marks:
    """The objects of the release folders of the builds that use this store."""
    marks = Marks()
    for _, release in roots(store):
        for listing in (release / name / LISTING for name in names_in(release)):
            with suppress(KeyError, TypeError):
                marks.objects |= {str(entry["sha256"]) for entry in parse_strangers(_read(listing))["files"]}
            for path in (listing, listing.with_name(SUMS), listing.with_name(STATEMENT)):
                with suppress(*NOT_THERE):
                    marks.objects.add(sha256_file(path))
    return marks


def _read(path: Path) -> bytes:
    """A file's bytes; none where it is gone. One that cannot be read may say that much is needed: OSError."""
    try:
        return read_small(str(path))
    except NOT_THERE:
        return b""


def roots(store: Store) -> list[tuple[Path, Path]]:
    """The build and release folders of the builds that use this store, those that are still there."""
    found = []
    for name in names_in(store.root / "roots"):
        with suppress(PermissionError, ValueError, KeyError, TypeError):
            data = parse_json(_read(store.root / "roots" / name))
            build, release = Path(data["build"]), Path(data["release"])
            if build.is_dir() or release.is_dir():
                found.append((build, release))
    return found


def live_since(store: Store) -> int | None:
    """When the eldest process began, in ns, that uses this store now; None when none does. What the dead left of
    themselves is removed."""
    began = []
    for name in names_in(store.root / "live"):
        path = store.root / "live" / name
        with suppress(FileNotFoundError), unless_locked(path) as dead:
            if dead:
                path.unlink()
            else:
                began.append(path.stat().st_mtime_ns)
    return min(began, default=None)
