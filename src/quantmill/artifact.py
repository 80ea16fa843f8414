"""What a step is handed: files of known digest, and how to work."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple


class Artifact(NamedTuple):
    """A file whose content is known: `sha256` is 64 lower-case hex digits, `size` is in bytes."""

    path: Path
    sha256: str
    size: int


class ByteRange(NamedTuple):
    """Bytes within a file: `size` of them from `offset`, with the sha256 that they had when they were written."""

    path: Path
    offset: int
    size: int
    sha256: str


def unknown(key: str) -> ByteRange | None:
    """The `find` of a context that knows no bytes."""
    return None


def silent(done: int, total: int) -> None:
    """The progress callback that reports to nobody."""


def nowhere(artifacts: Iterable[Artifact]) -> None:
    """The `deliver` of a context that knows no place."""
    raise ValueError("there is no shared store")


class Context(NamedTuple):
    """How a step is to work. Nothing here may change a byte of its outputs, so nothing here reaches the step key.

    `progress(done, total)` is called with bytes, from any thread. `find(key)` tells where bytes of a key are that a
    step listed before (see steps/quant.py). `deliver` has files at the shared store before it returns, or raises.
    """

    threads: int = 1
    progress: Callable[[int, int], None] = silent
    find: Callable[[str], ByteRange | None] = unknown
    deliver: Callable[[Iterable[Artifact]], None] = nowhere
