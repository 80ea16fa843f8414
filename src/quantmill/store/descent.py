"""What was made of an object: records, their outputs' records in turn, and spans."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from quantmill.disk import names_in, read_table, write_own
from quantmill.store.record import decode


def records(root: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every record of the store at `root` that proves itself, by name."""
    for name in names_in(root / "ac"):
        with suppress(OSError):
            if found := decode(name, (root / "ac" / name).read_bytes()):
                yield name, found


def forget(root: Path, wrong: Collection[str]) -> list[str]:
    """Remove the records that were made here of wrong objects, the records made of their outputs in turn, and the spans
    of all these; returns the records' names. What another machine made of its own copies stays."""
    made = {name: found for name, found in records(root) if "origin" not in found}
    bad, gone = set(wrong), list[str]()
    while reached := [name for name, found in made.items() if not bad.isdisjoint(found["key"]["inputs"].values())]:
        for name in reached:
            bad |= {fact["sha256"] for fact in made.pop(name)["outputs"].values()}
            (root / "ac" / name).unlink(missing_ok=True)
        gone += reached
    for folder in names_in(root / "span"):
        for key in names_in(root / "span" / folder):
            if read_table(path := root / "span" / folder / key).get("object") in bad:
                path.unlink(missing_ok=True)
    return gone


def forget_record(root: Path, name: str, wrong: Callable[[Mapping[str, Any]], bool]) -> list[str] | None:
    """Remove the record of that name, whoever made it, where its outputs are `wrong`, and what was made here of those
    that no other record names; returns the names of the latter. None where there is no such record."""
    try:
        found = decode(name, (root / "ac" / name).read_bytes())
    except OSError:
        return None
    if found is None or not wrong(found["outputs"]):
        return None
    (root / "ac" / name).unlink(missing_ok=True)
    objects = {fact["sha256"] for fact in found["outputs"].values()}
    for _, other in records(root):
        objects -= {fact["sha256"] for fact in other["outputs"].values()}
    gone = forget(root, objects)
    note(root, name)
    return gone


def note(root: Path, what: str) -> None:
    """Let builds that are running know that records went (`Objects.damages`)."""
    write_own(root / "damaged", f"{time.time_ns()} {what}\n".encode())
