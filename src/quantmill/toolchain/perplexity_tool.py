"""A base's predictions of a text, and how far a file's are from them, by the llama-perplexity of a llama.cpp."""

import math
import re
import shutil
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantmill.toolchain.installed import PERPLEXITY, program
from quantmill.toolchain.subprogram import Heard, ToolFailed, last_words, run

_COUNT = re.compile(r"(?:calculating perplexity|computing) over (\d+) chunks")
_DONE = re.compile(r"\[(\d+)\]-?[\d.]+,|^ *(\d+) +-?[\d.]+ ±", re.MULTILINE)
_FINAL = re.compile(r"Final estimate: PPL = (\S+) \+/- (\S+)")
_MAGIC, _HEAD = b"_logits_", 20
# What llama-perplexity says of a file: the line's name, the field of the mean, that of its error, and the unit.
_SAID: tuple[tuple[str, str, str, float], ...] = (
    ("Mean PPL(Q)", "perplexity", "perplexity_error", 1.0),
    ("Mean KLD", "mean", "kld_error", 1.0),
    ("Median KLD", "median", "", 1.0),
    ("90.0% KLD", "p90", "", 1.0),
    ("99.0% KLD", "p99", "", 1.0),
    ("99.9% KLD", "p999", "", 1.0),
    ("Maximum KLD", "max", "", 1.0),
    ("Same top p", "top1", "top1_error", 0.01),
    ("Mean Δp", "delta_p_mean", "", 0.01),
    ("RMS Δp", "delta_p_rms", "", 0.01),
)
_NEEDED = ("perplexity", "mean", "kld_error", "top1", "top1_error")
_KLD = ("mean", "median", "p90", "p99", "p999", "max")


@dataclass(frozen=True)
class PerplexityOptions:
    """What is to be measured; `chunks` None: all of them; `args`: further options of llama-perplexity."""

    model: Path
    n_ctx: int = 512
    chunks: int | None = None
    args: Sequence[str] = ()


def predict(
    facts: Mapping[str, Any],
    asked: PerplexityOptions,
    text: Path,
    out: Path,
    work: Path,
    threads: int,
    progress: Callable[[int, int], None],
) -> dict[str, Any]:
    """Write the base's predictions of `text` to the new file `out`; return its `perplexity`, the error, and the
    `chunks` and `tokens` that were counted.

    `facts` are the lock's of the toolchain; `work` is a new folder. UsageError where the toolchain is not here;
    ToolFailed where it fails or writes none.
    """
    told = f"{PERPLEXITY} of llama.cpp {facts['llama_cpp']}"
    command = ["-f", str(text.resolve()), "--kl-divergence-base", str(out.absolute())]
    said = _run(facts, asked, command, work, threads, progress, told)
    found = _FINAL.findall(said)
    if not out.is_file() or len(found) != 1:
        raise ToolFailed(f"{told} measured nothing: {last_words(said)}")
    perplexity, error = (_number(word, told) for word in found[0])
    chunks, rows = _shape(out, asked.n_ctx, told)
    return {"perplexity": perplexity, "perplexity_error": error, "chunks": chunks, "tokens": chunks * rows}


def compare(
    facts: Mapping[str, Any],
    asked: PerplexityOptions,
    predictions: Path,
    work: Path,
    threads: int,
    progress: Callable[[int, int], None],
) -> dict[str, Any]:
    """How far a file is from the base whose `predictions` these are: quality.divergence's fields, without those that
    llama-perplexity does not tell. Raises as `predict`."""
    told = f"{PERPLEXITY} of llama.cpp {facts['llama_cpp']}"
    chunks, rows = _shape(predictions, asked.n_ctx, told)
    command = ["--kl-divergence", "--kl-divergence-base", str(predictions.resolve())]
    said = _run(facts, asked, command, work, threads, progress, told)
    return divergence(said, told) | {"tokens": chunks * rows}


def divergence(said: str, told: str) -> dict[str, Any]:
    """What llama-perplexity, called `told`, says of a file. ToolFailed where it says not enough, or no numbers."""
    lines: dict[str, list[str]] = {}
    for line in said.splitlines():
        name, colon, rest = line.partition(":")
        if colon:
            lines.setdefault(" ".join(name.split()), []).append(rest)
    found: dict[str, Any] = {}
    for name, field, error, unit in _SAID:
        values = [*dict.fromkeys(lines.get(name, []))]  # some tags say a line twice
        if len(values) > 1:
            raise ToolFailed(
                f"{told} says of {name!r} {' and '.join(map(str.strip, values))}, and one was to be measured"
            )
        if values:
            numbers = values[0].replace("%", " ").split("±")
            found[field] = _scaled(numbers[0], unit, told)
            if error and len(numbers) == 2:
                found[error] = _scaled(numbers[1], unit, told)
    if lacking := [field for field in _NEEDED if field not in found]:
        raise ToolFailed(f"{told} measured no {lacking[0]}: {last_words(said)}")
    kld = {name: max(found.pop(name), 0.0) for name in _KLD if name in found}  # which rounding makes negative
    return found | {"kld": kld}


def _run(
    facts: Mapping[str, Any],
    asked: PerplexityOptions,
    command: Sequence[str],
    work: Path,
    threads: int,
    progress: Callable[[int, int], None],
    told: str,
) -> str:
    tool = program(facts, "evaluation")
    work.mkdir()
    whole = [str(tool), "-m", str(asked.model.resolve()), *command, "-c", str(asked.n_ctx), "-t", str(threads)]
    whole += ["--chunks", str(asked.chunks)] if asked.chunks else []
    said = run([*whole, *asked.args], told, work, _counting(progress))
    shutil.rmtree(work)
    return said


def _counting(progress: Callable[[int, int], None]) -> Heard:
    chunks = 0

    def heard(said: str) -> None:
        nonlocal chunks
        chunks = int(found[1]) if (found := _COUNT.search(said)) else chunks
        if chunks and (done := _DONE.findall(said)):
            progress(min(int(max(done[-1])), chunks), chunks)

    return heard


def _shape(predictions: Path, n_ctx: int, told: str) -> tuple[int, int]:
    """The chunks in a file of predictions, and the tokens of each that count. ToolFailed for what is none."""
    size = predictions.stat().st_size
    with predictions.open("rb") as file:
        head = file.read(_HEAD)
    if len(head) == _HEAD and head.startswith(_MAGIC):
        length, vocabulary, chunks = struct.unpack("<3i", head[8:])
        rows = n_ctx - 1 - n_ctx // 2
        width = 2 * ((vocabulary + 1) // 2 + 2)  # uint16: a scale, a least value, and one for each token
        if length == n_ctx and chunks > 0 and size == _HEAD + chunks * (4 * n_ctx + 2 * rows * width):
            return chunks, rows
    raise ToolFailed(f"{told} wrote no whole file of predictions in chunks of {n_ctx} tokens")


def _scaled(word: str, unit: float, told: str) -> float:
    return round(_number(word.strip(), told) * unit, 9)


def _number(word: str, told: str) -> float:
    try:
        found = float(word)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise ToolFailed(f"{told} measured {word!r}, which is no number; a weight or a scale may be damaged")
    return found
