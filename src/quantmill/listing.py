"""The names of a release's files, and how a listing, or any other JSON of a stranger's, is read.

Nothing heavy is imported: every build reads this.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

LISTING, SUMS = "release.json", "SHA256SUMS"  # names in a release's folder
LISTING_LIMIT = 10_000_000  # bytes of a listing that is read from elsewhere
IMATRIX_ENDING = "-imatrix.gguf"  # how a release calls an importance matrix in GGUF, which is no model
MAX_VALUES = 6_000_000  # and names in a file, of 100 bytes at most: Gemma's tokenizer.json has 2.2 million
MAX_DEPTH = 100  # of lists and tables in each other: a model's files have some ten


class UnfitJSON(ValueError):
    """JSON that would take up the memory; the message is what follows the file's name."""


def strangers_json(data: bytes, hook: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """What a stranger's JSON in UTF-8 says; a ValueError for what is none, UnfitJSON for too many or too deep values.
    `hook` makes a table of its pairs."""
    if sum(map(data.count, (b",", b":", b"[", b"{"))) > MAX_VALUES:  # one before each but the first
        raise UnfitJSON(f"has more than {MAX_VALUES} values")
    try:
        found = json.loads(data.decode(), object_pairs_hook=hook)
    except RecursionError:
        raise ValueError("lists and tables in each other without end") from None
    level, depth = [found], 0
    while level := [value for value in level if isinstance(value, dict | list)]:
        depth += 1
        if depth > MAX_DEPTH:
            raise UnfitJSON(f"is more than {MAX_DEPTH} levels deep")
        level = [inner for value in level for inner in (value.values() if isinstance(value, dict) else value)]
    return found


def parse_strangers(data: bytes) -> Any:
    """What a stranger's JSON says; None for what is none."""
    try:
        return strangers_json(data)
    except ValueError:
        return None


def read_strangers(path: Path) -> Any:
    """The same of a file; None also where it cannot be read or is longer than a listing."""
    try:
        with path.open("rb") as file:
            data = file.read(LISTING_LIMIT + 1)
    except OSError:
        return None
    return parse_strangers(data) if len(data) <= LISTING_LIMIT else None
