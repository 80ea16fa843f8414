"""What a reader of a release sees of it: files with their sizes and, where they were measured, quality and speed.

The page and the choice are made of these, whether they come from a plan, a build, a folder or the Hub.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeGuard

LARGE = 0.2  # a share of the weights that a file's reader is told of
KLD = ("mean", "median", "p90", "p99", "p999", "max")


@dataclass(frozen=True)
class Quality:
    """How far a file is from the unquantized model. `kld` maps KLD's names to nats; `top1` is a share from 0 to 1; what
    was not measured is None."""

    perplexity: float | None
    perplexity_error: float | None
    kld: Mapping[str, float]
    top1: float | None
    kld_error: float | None = None
    delta_p_rms: float | None = None


@dataclass(frozen=True)
class BenchRow:
    """One test of one file: tokens per second, with their standard deviation if it ran more than once; per cent of
    Q4_0's, if that ran."""

    ftype: str
    test: str
    rate: float
    deviation: float | None
    percent: float | None


@dataclass(frozen=True)
class Bench:
    """Measured speed, which belongs to the host that it was measured on."""

    cpu: str
    threads: int
    backend: str
    rows: tuple[BenchRow, ...]


@dataclass(frozen=True)
class ReleasedFile:
    """One file of a release.

    `name`: ends in `.gguf`, or in `/` for a folder of `shards` parts, whose `bytes` add up
    `bits`: of a weight, really; 0 where that is not known
    `others`: the share of the weights that are of another type than the name says
    `weights`: equal in files whose tensors are the same; `digest`: in files whose every byte is
    `kind`: of one whose types were searched, the stock ftype that it is most like; `rival`: a stock file of its size
    that is no worse
    `twin`: the ftype of the file whose weights these are too, with `is_copy` its every byte
    """

    name: str
    ftype: str
    bytes: int
    shards: int
    quality: Quality | None = None
    bits: float = 0.0
    others: float = 0.0
    weights: str = ""
    digest: str = ""
    twin: str = ""
    is_copy: bool = False
    kind: str = ""
    rival: str = ""

    @property
    def like(self) -> str:
        """The ftype by which rules of thumb take it."""
        return self.kind or self.ftype


@dataclass(frozen=True)
class ReleaseFacts:
    """A release as it lies in a folder or at the Hub.

    `settings`: what its listing says of its making, by key; `recipe`: the recipe's text
    `beside`: the digests of the files that are no weights, by name; empty for one that is not known
    `notes`: who signed it, and what is odd; `audits`: what auditors say of its files, a line each; `results`: the word
    of each that is of these files
    `types`: of each file whose header was read the tensors with their types and bits a weight
    `own_mixes`: the ftypes of files that are named after none of llama.cpp's
    """

    place: str
    files: tuple[ReleasedFile, ...]
    settings: Mapping[str, str]
    bench: Bench | None
    beside: Mapping[str, str]
    notes: tuple[str, ...]
    audits: tuple[str, ...]
    recipe: str = ""
    types: Mapping[str, Mapping[str, tuple[str, float]]] = field(default_factory=dict)
    own_mixes: frozenset[str] = frozenset()
    results: tuple[str, ...] = ()


def by_size(files: Iterable[ReleasedFile]) -> list[ReleasedFile]:
    """Largest first; files of one size in the order given."""
    return sorted(files, key=lambda file: -file.bytes)


def plainness(ftype: str) -> tuple[bool, int, str]:
    """By which the plainest name of the same weights comes first."""
    return ftype.endswith(("_L", "_XL")), len(ftype), ftype


def with_twins(files: Sequence[ReleasedFile]) -> list[ReleasedFile]:
    """The files, each that repeats another with that as its twin: the plainest name of them is nobody's."""
    first: dict[str, ReleasedFile] = {}
    for file in sorted(files, key=lambda f: plainness(f.ftype)):
        for key in filter(None, (file.digest, file.weights)):
            first.setdefault(key, file)
    found = []
    for file in files:
        copied, same = (first.get(key, file) for key in (file.digest, file.weights))
        other = copied if copied is not file else same
        found.append(file if other is file else replace(file, twin=other.ftype, is_copy=copied is not file))
    return found


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """The Pareto front of (size, loss): the places of those that no other of their size or smaller beats, smallest
    first."""
    found: list[int] = []
    for at in sorted(range(len(points)), key=lambda at: points[at]):
        if not found or points[at][1] < points[found[-1]][1]:
            found.append(at)
    return found


def quality(report: Any) -> Quality | None:
    """The quality that a verify report holds under `quality`; None when it holds none."""
    found = report.get("quality") if isinstance(report, Mapping) else None
    if not isinstance(found, Mapping):
        return None
    kld = found.get("kld")
    values = {name: _number(kld.get(name)) for name in KLD} if isinstance(kld, Mapping) else {}
    return Quality(
        _number(found.get("perplexity")),
        _number(found.get("perplexity_error")),
        {name: value for name, value in values.items() if value is not None},
        _number(found.get("top1")),
        _number(found.get("kld_error")),
        _number(found.get("delta_p_rms")),
    )


def rival(told: Any) -> str:
    """The stock file that is no worse than a target, of what a report tells of that; empty where none is."""
    return str(told.get("beside", {}).get("ftype", "")) if told and "finding" in told else ""


def bench(report: Any) -> Bench | None:
    """The table of a bench report (`host` and `rows`); None when there is none that can be read."""
    if not isinstance(report, Mapping) or not isinstance(report.get("rows"), list):
        return None
    host = report["host"] if isinstance(report.get("host"), Mapping) else {}
    rows = []
    for row in report["rows"]:
        rate = _number(row.get("ts")) if isinstance(row, Mapping) else None
        if rate is not None:
            deviation, percent = _number(row.get("sd")), _number(row.get("percent_of_q4_0"))
            rows.append(BenchRow(str(row.get("ftype")), str(row.get("test")), rate, deviation, percent))
    threads = host.get("threads")
    found = Bench(
        str(host.get("cpu") or "?"), threads if isinstance(threads, int) else 0, str(host.get("backend") or "CPU"),
        tuple(rows),
    )  # fmt: skip
    return found if rows else None


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether something is a number that a float holds: no truth value, no NaN, and no integer beyond."""
    fits = isinstance(value, int | float) and not isinstance(value, bool)
    return fits and -sys.float_info.max <= value <= sys.float_info.max


def _number(value: Any) -> float | None:
    return float(value) if is_number(value) else None
