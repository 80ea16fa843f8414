"""What was made of an object: records, their outputs' records in turn, and spans."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from quantmill.disk import names_in, read_table
from quantmill.store.record import decode


def records(root: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every record of the store at `root` that proves itself, by name."""
    for name in names_in(root / "ac"):
        with suppress(OSError):
            if found := decode(name, (root / "ac" / name).read_bytes()):
                yield name, found


def forget(root: Path, damaged: str) -> list[str]:
    """Remove the records that were made here of an object, the records made of their outputs in turn, and the spans of
    all these; returns the records' names. What another machine made of its own copies stays."""
    made = {name: found for name, found in records(root) if "origin" not in found}
    bad, gone = {damaged}, list[str]()
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
