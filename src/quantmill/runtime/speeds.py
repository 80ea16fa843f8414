"""Tests of speed and their results: llama-bench's tests, repeated and interleaved over files."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Trial:
    """Tokens of a prompt evaluated at once ("pp"), or generated one after the other ("tg")."""

    kind: str
    count: int

    @property
    def name(self) -> str:
        return f"{self.kind}{self.count}"


@dataclass
class Timing:
    """One test of one file: tokens per second of each repetition. `size` in bytes, `parameters` weights."""

    file: Path
    model: str
    ftype: str
    size: int
    parameters: int
    backend: str
    threads: int
    test: Trial
    rates: list[float] = field(default_factory=list)

    @property
    def mean(self) -> float:
        return statistics.fmean(self.rates)

    @property
    def deviation(self) -> float | None:
        """Their standard deviation; one repetition has none."""
        return statistics.stdev(self.rates) if len(self.rates) > 1 else None


# Runs each test once on a file and gives the rows, with one rate each.
Runner = Callable[[Path, Sequence[Trial]], list[Timing]]


def measure(
    files: Sequence[Path],
    tests: Sequence[Trial],
    repetitions: int,
    run: Runner,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Timing]:
    """The rows of all tests of all files, in order. A repetition goes over all files before the next begins, so that
    a drift of the machine's speed meets all of them."""
    rows: dict[tuple[Path, Trial], Timing] = {}
    total = repetitions * len(files)
    for done in range(total):
        file = files[done % len(files)]
        for row in run(file, tests):
            if found := rows.get((file, row.test)):
                found.rates += row.rates
            else:
                rows[file, row.test] = row
        progress(done + 1, total)
    return [rows[file, test] for file in files for test in tests]


def percent(rows: Sequence[Timing], row: Timing) -> float | None:
    """The row's speed in per cent of the first Q4_0 file's in the same test; None without one."""
    base = next((other for other in rows if other.ftype == "Q4_0" and other.test == row.test), None)
    return 100 * row.mean / base.mean if base else None


def data(rows: Sequence[Timing], host: Mapping[str, Any]) -> dict[str, Any]:
    """Host and rows as plain JSON: the form of bench.json."""
    return {
        "host": dict(host),
        "rows": [
            {
                "file": row.file.name,
                "model": row.model,
                "ftype": row.ftype,
                "size": row.size,
                "parameters": row.parameters,
                "backend": row.backend,
                "threads": row.threads,
                "test": row.test.name,
                "ts": round(row.mean, 2),
                "sd": None if row.deviation is None else round(row.deviation, 2),
                "percent_of_q4_0": None if (share := percent(rows, row)) is None else round(share, 1),
            }
            for row in rows
        ],
    }


def table(rows: Sequence[Timing]) -> list[str]:
    """The lines of the table of model cards, in Markdown."""
    head = ("model", "size", "params", "backend", "threads", "test", "t/s", "% of Q4_0")
    lines = [head, ("---", "---:", "---:", "---", "---:", "---:", "---:", "---:")]
    for row in rows:
        share = percent(rows, row)
        lines.append(
            (
                f"{row.model} {row.ftype}",
                f"{row.size / 2**20:.2f} MiB",
                f"{row.parameters / 1e6:.2f} M",
                row.backend,
                str(row.threads),
                row.test.name,
                f"{row.mean:.2f}" + ("" if row.deviation is None else f" ± {row.deviation:.2f}"),
                "" if share is None else f"{share:.0f}",
            )
        )
    return [f"| {' | '.join(cells)} |" for cells in lines]
