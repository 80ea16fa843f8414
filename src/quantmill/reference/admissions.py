"""Tags that were admitted: whose files were compared with those of a llama.cpp, and when.

Those of quantmill itself lie in `admissions.json` beside this file. A team's lie in a file of that name in its
project's folder, or signed at the shared store, and count there.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from quantmill.disk import parse_json, write_atomic
from quantmill.errors import UsageError

FILE = "admissions.json"
TAG = re.compile(r"b([1-9][0-9]{0,8})|v[0-9]+\.[0-9]+\.[0-9]+", re.ASCII)  # of llama.cpp: a build, or a version
_LIMIT = 1 << 20  # bytes: each takes some 250


@dataclass(frozen=True)
class Admission:
    """A tag whose files ours were compared with.

    `span`: the first build of the span whose rules hold.
    `questions`: the digest of the conformance set.
    `oracle`: the sha256 of the library or tool.
    `files`, `refused`: how many files were equal, and how many neither side writes.
    """

    tag: str
    span: int
    questions: str
    oracle: str
    date: str
    files: int
    refused: int


def of_folder(folder: Path) -> tuple[Admission, ...]:
    """Those of the project in `folder`, none where it has no file of them."""
    path = folder / FILE
    return read(path) if path.exists() else ()


@cache
def own() -> tuple[Admission, ...]:
    """Quantmill's own."""
    return of_folder(Path(__file__).parent)


def read(path: Path) -> tuple[Admission, ...]:
    """A file of admissions; UsageError when it is none."""
    with open(path, "rb") as file:
        found = parse_rows(parse_json(file.read(_LIMIT)))
    if found is None:
        raise UsageError(f"{path}: not a file of admissions; remove it and let quantmill admit write it anew")
    return found


def parse_rows(found: Any) -> tuple[Admission, ...] | None:
    """Admissions from plain data, None where these are none."""
    types = {field.name: field.type for field in fields(Admission)}
    rows: list[Any] = found if isinstance(found, list) else [None]
    for row in rows:
        whole = isinstance(row, dict) and {name: type(value) for name, value in row.items()} == types
        if not whole or not TAG.fullmatch(row["tag"]):
            return None
    return tuple(Admission(**row) for row in rows)


def add(path: Path, admission: Admission) -> None:
    """Enter an admission, in place of one of the same tag."""
    others = read(path) if path.exists() else ()
    kept = [known for known in others if known.tag != admission.tag]
    write(path, [*kept, admission])


def write(path: Path, admissions: Iterable[Admission]) -> None:
    """A row a line."""
    rows = ",\n".join(json.dumps(asdict(admission)) for admission in admissions)
    write_atomic(path, f"[\n{rows}\n]\n".encode())
