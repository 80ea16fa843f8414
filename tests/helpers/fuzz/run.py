"""Fuzzing: seeded cases, run in a child process that a crash may take down, each under a limit of time and memory.

    python tests/helpers/fuzz/run.py gguf --first 0 --count 200000     (KINDS: the other kinds of case)

A case is its seed, so a range of seeds can be gone on with, or spread over processes. What is found (a stray exception,
a hang, a death by a sanitizer) is printed once for each place in the code, with its seed and at the end with the number
of cases; `--one SEED` runs one case in this process, with its traceback. Exit code 1 when anything was found. How to
build with sanitizers: docs/testing.md.
"""

import argparse
import contextlib
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "golden")]

KINDS = ("gguf", "kernels", "safetensors", "texts", "folders")
SECONDS = 10  # for one case, before it counts as a hang
SILENCE = 60  # seconds without a finished case: hung where no signal is looked at
GROWTH = 400 << 20  # bytes that the peak of memory may grow during all cases

Case = Callable[[int, Path], str]


class Hang(BaseException):
    """A case took too long; no handler of the code under test may swallow this."""


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raises Hang inside the block when its time is over."""

    def over(_signal: int, _frame: FrameType | None) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def peak() -> int:
    """Bytes: the most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def place(error: BaseException) -> str:
    """The error's kind and the innermost line of quantmill's (else of the case's) that it came through."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.endswith("/run.py")]
    own = [f for f in frames if "quantmill" in f.filename] or frames
    where = f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else "nowhere"
    return f"{type(error).__name__} at {where}"


def cases(kind: str, first: int, count: int, folder: Path) -> Iterator[tuple[int, str, str]]:
    """(seed, outcome, what was found or an empty text) of every case of the range."""
    case: Case = import_module(f"fuzz.{kind}_case").case
    before = 0
    for seed in range(first, first + count):
        found, outcome = "", ""
        try:
            with limited(SECONDS), warnings.catch_warnings():
                warnings.simplefilter("error")
                outcome = case(seed, folder)
        except (Exception, Hang) as error:
            found = f"{place(error)}: {error}"[:500]
        if not before:
            before = peak()  # with everything imported
        if peak() > before + GROWTH:
            found = found or f"memory grew to {peak() >> 20} MB"
            before = peak()
        yield seed, outcome, found


def child(kind: str, first: int, count: int, folder: Path) -> None:
    """Prints a line of JSON a case; before a case its seed, for whoever has to say what killed this process."""
    for seed, outcome, found in cases(kind, first, count, folder):
        print(json.dumps([seed, outcome, found]), flush=True)


def watched(kind: str, first: int, count: int, folder: Path) -> Iterator[tuple[int, str, str]]:
    """`cases` in children: the one that dies or falls silent is followed by the next, behind the seed that did it."""
    end = first + count
    while first < end:
        errors = folder / "stderr"
        command = [sys.executable, __file__, kind, "--first", str(first), "--count", str(end - first), "--child"]
        with errors.open("wb") as sink:
            process = subprocess.Popen([*command, "--dir", str(folder)], stdout=subprocess.PIPE, stderr=sink)
        assert process.stdout is not None
        pending = b""
        while True:
            ready, _, _ = select.select([process.stdout], [], [], SILENCE)
            piece = os.read(process.stdout.fileno(), 1 << 16) if ready else b""
            if not piece:
                break
            *lines, pending = (pending + piece).split(b"\n")
            for line in lines:
                seed, outcome, found = json.loads(line)
                first = seed + 1
                yield seed, outcome, found
        hung = process.poll() is None and not ready
        if hung:
            process.kill()
        process.wait()
        if first < end:
            text = errors.read_text(errors="replace")
            signs = ("runtime error", "ERROR: AddressSanitizer", "/kernels/")
            own = [line.strip() for line in text.splitlines() if any(sign in line for sign in signs)]
            yield (
                first,
                "",
                "silent" if hung else f"died ({process.returncode}): " + " | ".join(own[:3] or [text[-300:]]),
            )
            first += 1


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--one", type=int, help="run this case alone, in this process")
    parser.add_argument("--dir", type=Path, help="where the cases' files are written; best in memory")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.kind, args.first, args.count, args.dir)
        return 0
    folder = Path(tempfile.mkdtemp(prefix="fuzz", dir=args.dir))
    try:
        if args.one is not None:
            warnings.simplefilter("error")
            print(import_module(f"fuzz.{args.kind}_case").case(args.one, folder))
            return 0
        return report(watched(args.kind, args.first, args.count, folder))
    finally:
        shutil.rmtree(folder)


def report(results: Iterator[tuple[int, str, str]]) -> int:
    outcomes: Counter[str] = Counter()
    places: dict[str, list[Any]] = {}
    started, number = time.monotonic(), 0
    for number, (seed, outcome, found) in enumerate(results, 1):
        outcomes[outcome or "found"] += 1
        if found:
            where = found.partition(": ")[0] if not found.startswith("died") else found
            if where not in places:
                print(f"seed {seed}: {found}", flush=True)
            places.setdefault(where, []).append(seed)
        if number % 5000 == 0:
            spent = time.monotonic() - started
            print(f"{number} cases, up to seed {seed}, {spent:.0f} s: {dict(outcomes)}", flush=True)
    print(f"{number} cases, {time.monotonic() - started:.0f} s: {dict(outcomes)}")
    for where, seeds in places.items():
        print(f"{len(seeds)} cases, the first {seeds[:5]}: {where}")
    return 1 if places else 0


if __name__ == "__main__":
    sys.exit(main())
