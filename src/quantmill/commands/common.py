"""What several commands share."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from quantmill.artifact import silent
from quantmill.errors import UsageError

Progress = Callable[[int, int], None]


def positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


def existing(path: Path) -> Path:
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file; give the path of a GGUF file")
    return path


def threads(options: argparse.Namespace) -> int:
    return getattr(options, "threads", None) or len(os.sched_getaffinity(0))


@contextmanager
def bar(title: str) -> Iterator[Progress]:
    """A bar by bytes on a terminal, silence elsewhere."""
    if not sys.stderr.isatty():
        yield silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn(title), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(title, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
