"""Admit a tag: ask a llama.cpp the conformance set, and find the span whose rules give the same files."""

import datetime
import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from quantmill.admission.conformance import ALL, IMATRIX_NAME, OPTIONS, Call, calls, digest, write
from quantmill.artifact import silent
from quantmill.errors import QuantmillError
from quantmill.gguf.comparison import compare
from quantmill.quant.quantizer import quantize_file
from quantmill.reference.admissions import Admission
from quantmill.reference.reference import Reference

MOST_SHOWN = 20  # differences that are kept for a report; the rest are counted


class Oracle(Protocol):
    """What writes the files that ours are compared with."""

    path: Path

    def answer(self, call: Call, base: Path, out: Path) -> bool: ...


@dataclass
class Comparison:
    """What the calls gave under one reference: `different` says of each call in what, the first ones in words."""

    reference: Reference
    equal: int = 0
    refused: int = 0
    different: dict[str, str] = field(default_factory=dict)


class NotAdmitted(QuantmillError):
    """No span's rules give the library's files."""

    def __init__(self, tag: str, best: Comparison) -> None:
        self.best = best
        call, what = next(iter(best.different.items()))
        total = best.equal + best.refused + len(best.different)
        super().__init__(
            f"{tag} is not admitted: under the rules of {best.reference}, the nearest, {len(best.different)} of "
            f"{total} files differ; the first is {call}: {what}"
        )


def admit(
    tag: str,
    oracle: Oracle,
    spans: Sequence[Reference],
    *,
    asked: Callable[[list[str]], Iterable[Call]] = calls,
    progress: Callable[[int, int], None] = silent,
) -> Admission:
    """Compare every file, and return the admission; NotAdmitted where no span's rules hold.

    `spans` are tried from the first on; one is given up at its first difference while others are left, and the one that
    got furthest is compared to the end.
    """
    with tempfile.TemporaryDirectory(prefix="quantmill-admit-") as name:
        folder = Path(name)
        for model in ALL:
            write(folder, model)
        questions = list(asked(list(spans[0].ftypes)))
        reached: list[tuple[int, Reference]] = []
        for reference in spans:
            comparison = _compare(reference, oracle, questions, folder, progress, stop=True)
            if not comparison.different:
                return _admission(tag, oracle, comparison, spans[0])
            reached.append((comparison.equal + comparison.refused, reference))
        nearest = max(reached, key=lambda found: found[0])[1]
        raise NotAdmitted(tag, _compare(nearest, oracle, questions, folder, progress, stop=False))


def _admission(tag: str, oracle: Oracle, comparison: Comparison, newest: Reference) -> Admission:
    with open(oracle.path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    asked = digest(list(newest.ftypes))
    return Admission(tag, comparison.reference.first, asked, found, today, comparison.equal, comparison.refused)


def _compare(
    reference: Reference,
    oracle: Oracle,
    questions: Sequence[Call],
    folder: Path,
    progress: Callable[[int, int], None],
    *,
    stop: bool,
) -> Comparison:
    found = Comparison(reference)
    theirs, ours = folder / "theirs", folder / "ours"
    for done, call in enumerate(questions):
        progress(done, len(questions))
        if "prune_layers" in OPTIONS[call.options] and reference.last < reference.options["--prune-layers"]:
            continue  # there the tool gives layers the weights of others
        base = folder / f"{call.model}.gguf"
        written = oracle.answer(call, base, theirs)
        problem = _ours(reference, call, base, ours)
        if problem is None and written and theirs.read_bytes() == ours.read_bytes():
            found.equal += 1
        elif problem is not None and not written:
            found.refused += 1
        else:
            found.different[str(call)] = _difference(problem, written, theirs, ours, len(found.different))
            if stop:
                break
    progress(len(questions), len(questions))
    return found


def _ours(reference: Reference, call: Call, base: Path, out: Path) -> str | None:
    """Write our file of a call; what we say where we do not."""
    guide = base.with_suffix(".imatrix") if call.guided else None
    try:
        quantize_file(
            base,
            out,
            call.ftype,
            imatrix=guide,
            imatrix_name=IMATRIX_NAME,
            reference=reference,
            **OPTIONS[call.options],
        )
    except QuantmillError as error:
        return str(error)
    return None


def _difference(problem: str | None, written: bool, theirs: Path, ours: Path, before: int) -> str:
    if problem is not None:
        return f"it writes a file, we do not: {problem}"
    if not written:
        return "it writes none, we do"
    if before >= MOST_SHOWN:
        return "the files differ"
    return "; ".join(_shown(map(str, compare(theirs, ours)))) or "the bytes differ"


def _shown(differences: Iterable[str], most: int = 3) -> Iterator[str]:
    """The first ones, and how many there are beside them."""
    everything = list(differences)
    yield from everything[:most]
    if len(everything) > most:
        yield f"and {len(everything) - most} more"
