"""Admit a tag: ask a llama.cpp the conformance set, and find the span whose rules give the same files."""

import datetime
import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from quantmill.admission.conformance import ALL, CORE, IMATRIX_NAME, OPTIONS, Call, calls, digest, write
from quantmill.artifact import silent
from quantmill.errors import QuantmillError
from quantmill.gguf.comparison import compare
from quantmill.quant.quantizer import quantize_file
from quantmill.reference.admissions import Admission
from quantmill.reference.reference import Reference

CAME = {"tensor_types": "--tensor-type", "prune_layers": "--prune-layers"}  # by build
STOPPED = b""  # in place of a digest: ggml before b8229 stops in the midst of some of the nasty data's blocks
MOST_SHOWN = 20  # differences that are kept for a report; the rest are counted


class Oracle(Protocol):
    """What writes the files that ours are compared with."""

    path: Path
    aborted: bool

    def answer(self, call: Call, base: Path, out: Path) -> bool: ...


@dataclass
class Comparison:
    """What the calls gave under one reference: `different` says of each call in what, the first ones in words.
    `stopped`: how many the oracle stops at for their data, of which nothing is said."""

    reference: Reference
    equal: int = 0
    refused: int = 0
    stopped: int = 0
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


class Admitted(NamedTuple):
    """An admission, and what was left out: the models that this llama.cpp does not load, and how many files it stops at
    for their data."""

    admission: Admission
    unknown: tuple[str, ...]
    stopped: int


def admit(
    tag: str,
    oracle: Oracle,
    spans: Sequence[Reference],
    *,
    asked: Callable[[list[str]], Iterable[Call]] = calls,
    progress: Callable[[int, int], None] = silent,
) -> Admitted:
    """Compare every file, and return the admission; NotAdmitted where no span's rules hold.

    `spans` are tried from the first on; one is given up at its first difference while others are left, and the one that
    got furthest is compared to the end.
    """
    with tempfile.TemporaryDirectory(prefix="quantmill-admit-") as name, ThreadPoolExecutor(1) as beside:
        folder = Path(name)
        for model in ALL:
            write(folder, model)
        trial = _Trial(tag, oracle, list(asked(list(spans[0].ftypes))), folder, beside, progress)
        reached: list[tuple[int, Reference]] = []
        for reference in spans:
            comparison = trial.compare(reference, stop=True)
            if not comparison.different:
                found = _admission(tag, oracle, comparison, trial.questions)
                return Admitted(found, trial.unknown, comparison.stopped)
            reached.append((comparison.equal + comparison.refused, reference))
        nearest = max(reached, key=lambda found: found[0])[1]
        raise NotAdmitted(tag, trial.compare(nearest, stop=False))


def _admission(tag: str, oracle: Oracle, comparison: Comparison, questions: Iterable[Call]) -> Admission:
    with open(oracle.path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    asked = digest(questions)
    return Admission(tag, comparison.reference.first, asked, found, today, comparison.equal, comparison.refused)


class _Trial:
    """The calls, and what the oracle answered so far: it is asked each of them once, beside our own work."""

    def __init__(
        self,
        tag: str,
        oracle: Oracle,
        questions: list[Call],
        folder: Path,
        beside: ThreadPoolExecutor,
        progress: Callable[[int, int], None],
    ) -> None:
        self._build = int(tag[1:]) if tag.startswith("b") else None
        self._oracle, self._folder, self._beside, self._progress = oracle, folder, beside, progress
        self._theirs, self._ours = folder / "theirs", folder / "ours"
        self._answers: dict[Call, bytes | None] = {}  # the digest of a file, None where it writes none
        later = dict.fromkeys(call.model for call in questions if call.model not in CORE)
        self.unknown = tuple(model for model in later if self._ask(Call(model, "COPY", guided=False)) is None)
        known = [call for call in questions if call.model not in self.unknown]
        # A library that aborts starts anew, and makes its grids of an IQ type anew: those of one ftype together.
        self.questions = sorted(known, key=lambda call: call.ftype)

    def compare(self, reference: Reference, *, stop: bool) -> Comparison:
        """Our files under a reference with theirs; `stop`: to the first that differs."""
        found, questions = Comparison(reference), [call for call in self.questions if self._has(reference, call)]
        for done, call in enumerate(questions):
            self._progress(done, len(questions))
            asked = self._beside.submit(self._ask, call)
            problem = self._write(reference, call)
            theirs = asked.result()
            if problem is None and theirs and theirs == _digest(self._ours):
                found.equal += 1
            elif problem is not None and not theirs:
                found.refused += 1
            elif theirs == STOPPED:
                found.stopped += 1
            else:
                found.different[str(call)] = self._difference(call, problem, len(found.different))
                if stop:
                    break
        self._progress(len(questions), len(questions))
        return found

    def _has(self, reference: Reference, call: Call) -> bool:
        """Whether the tag has the options. Earlier ones' tool prunes, and gives layers the weights of others."""
        build, given = self._build or reference.last, OPTIONS[call.options]
        return all(build >= reference.options[option] for key, option in CAME.items() if key in given)

    def _ask(self, call: Call) -> bytes | None:
        if call not in self._answers:
            written = self._oracle.answer(call, self._folder / f"{call.model}.gguf", self._theirs)
            stopped = STOPPED if self._oracle.aborted and call.model == "nasty" else None
            self._answers[call] = _digest(self._theirs) if written else stopped
        return self._answers[call]

    def _write(self, reference: Reference, call: Call) -> str | None:
        """Write our file of a call; what we say where we do not."""
        base = self._folder / f"{call.model}.gguf"
        guide = base.with_suffix(".imatrix") if call.guided else None
        options = {"imatrix": guide, "imatrix_name": IMATRIX_NAME, **OPTIONS[call.options]}
        try:
            quantize_file(base, self._ours, call.ftype, reference=reference, **options)
        except QuantmillError as error:
            return str(error)
        return None

    def _difference(self, call: Call, problem: str | None, before: int) -> str:
        if problem is not None:
            return f"it writes a file, we do not: {problem}"
        if self._answers.pop(call) is None:
            return "it writes none, we do"
        if before >= MOST_SHOWN:
            return "the files differ"
        self._ask(call)  # for the file, which may have gone since
        return "; ".join(_shown(map(str, compare(self._theirs, self._ours)))) or "the bytes differ"


def _digest(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


def _shown(differences: Iterable[str], most: int = 3) -> Iterator[str]:
    """The first ones, and how many there are beside them."""
    everything = list(differences)
    yield from everything[:most]
    if len(everything) > most:
        yield f"and {len(everything) - most} more"
