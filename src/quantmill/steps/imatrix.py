"""imatrix: the importance of the base's matrices' columns, measured on the calibration text.

The bytes are the same for any number of threads, level of instructions and amount of memory; a run that was killed goes
on from the last whole layer.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from quantmill.artifact import Artifact, Context, silent
from quantmill.engine.chunks import Text, check_vocabulary, read_text, tokenize
from quantmill.engine.evaluation import Model, Run, collect, open_model
from quantmill.engine.stream import Tokens
from quantmill.engine.wave import gathered
from quantmill.errors import UsageError, nearest
from quantmill.imatrix.summary import ACTIVE
from quantmill.imatrix.sums import Sum, Sums
from quantmill.reference.reference import Reference
from quantmill.reference.spans import of_generation
from quantmill.statistics import rounded
from quantmill.store.key import canonical
from quantmill.vocabulary.tokenizer import load

PARAMS = ("arithmetic", "texts", "n_ctx", "chunks", "from_chunk", "process_output", "perplexity", "memory")
WORK = ".work"  # below the output folder while the step runs
SHOWN = 5  # tensors at each end of the report


@dataclass(frozen=True)
class Options:
    """What decides the bytes beside model and texts; `chunks` None: all of them."""

    n_ctx: int = 512
    chunks: int | None = None
    from_chunk: int = 0
    process_output: bool = False
    perplexity: bool = True  # in the report


@dataclass(frozen=True)
class Measured:
    """`sums` are in the order of the model's graph; `report` is plain JSON."""

    sums: Sums
    chunks: int
    report: Mapping[str, Any]


def run(inputs: Mapping[str, Artifact], params: Mapping[str, Any], out: Path, context: Context) -> None:
    """Write `imatrix.dat`, as the reference's llama-imatrix does, and `report.json`.

    `inputs`: `model.gguf`, and the texts, in UTF-8, as `texts/<name>`; `params["texts"]` lists their names below that,
    with what the file calls them and their weights: [[input, name, weight or null], ...]. `arithmetic`, `n_ctx`,
    `chunks`, `from_chunk`, `process_output` and `perplexity` decide the bytes; `memory`, in bytes, does not.
    """
    for name in params:
        if name not in PARAMS:
            raise UsageError(f"imatrix has no parameter {name!r}{nearest(name, PARAMS)}; it has {', '.join(PARAMS)}")
    texts = texts_of(inputs, params)
    work = out / WORK
    work.mkdir(exist_ok=True)
    reference, memory = of_generation(params.get("generation")), params.get("memory") or Run.memory
    how = Run(params["arithmetic"], context.threads, memory, work, context.progress, reference)
    lent = _lent(inputs, params, context)
    found = measure(inputs["model.gguf"].path, texts, Options(**options_of(params)), how, "the base", lent=lent)
    dataset = ", ".join(text.name for text in texts).encode()
    (out / "imatrix.dat").write_bytes(found.sums.legacy(reference, dataset, found.chunks))
    text = json.dumps(found.report, indent=1, ensure_ascii=False)
    (out / "report.json").write_text(text + "\n", encoding="utf-8")
    shutil.rmtree(work)


def texts_of(inputs: Mapping[str, Artifact], params: Mapping[str, Any]) -> list[Text]:
    """The texts that the step's params name."""
    return [
        Text(name, read_text(inputs[f"texts/{input_}"].path, name), None if weight is None else Fraction(weight))
        for input_, name, weight in params["texts"]
    ]


def options_of(params: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the step's params that are options."""
    return {key: params[key] for key in PARAMS[2:-1] if key in params}


def lent_key(inputs: Mapping[str, Artifact], params: Mapping[str, Any]) -> str:
    """Of what the sums come from, by which others than this step may have computed them (see steps/wave.py)."""
    read = {name: file.sha256 for name, file in inputs.items() if name == "model.gguf" or name.startswith("texts/")}
    decide = {name: params[name] for name in PARAMS if name in params and name != "memory"}
    return hashlib.sha256(canonical(["imatrix", read, decide]).encode()).hexdigest()


def _lent(inputs: Mapping[str, Artifact], params: Mapping[str, Any], context: Context) -> bytes | None:
    span = context.find(lent_key(inputs, params))
    if span is None:
        return None
    with suppress(OSError), open(span.path, "rb") as file:
        file.seek(span.offset)
        data = file.read(span.size)
        if hashlib.sha256(data).hexdigest() == span.sha256:
            return data
    return None


def text_chunks(
    reference: Reference, model: Model, path: Path, texts: Sequence[Text], options: Options, place: str
) -> Tokens:
    """The texts as the model shall see them."""
    tokenizer = load(path)
    check_vocabulary(tokenizer, model.described("token_embd.weight")[0][1], place)
    first, count = options.from_chunk, options.chunks
    return tokenize(texts, tokenizer, options.n_ctx, first=first, count=count, reference=reference)


def measure(
    model: Path,
    texts: Sequence[Text],
    options: Options,
    how: Run,
    place: str,
    said: Callable[[int, int], None] = silent,
    lent: bytes | None = None,
) -> Measured:
    """The sums of a GGUF's or model folder's matrices over the texts, and a report. `place` is what errors call the
    model; `said(chunks, tokens)` is told before the work; `lent` is what several machines computed
    (forward.wave.gather). Raises a TextError, ModelError or ForwardError."""
    with open_model(model, place) as opened:
        chunks = text_chunks(how.reference, opened, model, texts, options, place)
        said(len(chunks), chunks.size)
        if lent is None:
            found = collect(opened, chunks, how, process_output=options.process_output, perplexity=options.perplexity)
        else:
            found = gathered(how.reference, lent, options.n_ctx)
    tensors = {
        name: Sum(np.atleast_2d(squares), np.atleast_1d(found.counts[name]), found.calls[name])
        for name, squares in found.sums.items()
    }
    names = tuple(text.name.encode() for text in texts)
    sums = Sums(tensors, names, len(chunks), options.n_ctx).in_graph_order()
    report = {
        "texts": [text.name for text in texts],
        "chunks": len(chunks),
        "n_ctx": options.n_ctx,
        "tokens": int(chunks.size),
        "arithmetic": how.arithmetic,
        "perplexity": None if found.perplexity is None else rounded(found.perplexity),
        "perplexity_error": None if found.perplexity_error is None else rounded(found.perplexity_error),
        **coverage(sums),
    }
    return Measured(sums, max((sum_.calls for sum_ in tensors.values()), default=0), report)


def coverage(sums: Sums) -> dict[str, Any]:
    """How much of the tensors the text reached: `entries`, their number; `coverage`, the share of a tensor's columns
    whose mean squared input is above 1e-5, of the tensors with the largest and the smallest; `never_hit`, the experts
    that no token chose, by tensor, which a legacy file leaves out (`left_out`)."""
    shares = sorted((_share(sum_), name) for name, sum_ in sums.tensors.items())
    never = {name: np.flatnonzero(sum_.counts == 0).tolist() for name, sum_ in sums.tensors.items()}
    whole = set(sums.whole())
    return {
        "entries": len(whole),
        "coverage": {
            "largest": [{"tensor": name, "share": share} for share, name in shares[::-1][:SHOWN]],
            "smallest": [{"tensor": name, "share": share} for share, name in shares[:SHOWN]],
        },
        "never_hit": {name: experts for name, experts in never.items() if experts},
        "left_out": [name for name in sums.tensors if name not in whole],
    }


def _share(sum_: Sum) -> float:
    means = sum_.squares / np.maximum(sum_.counts, 1).reshape(-1, 1).astype(np.float32)
    return round(int((means > ACTIVE).sum()) / means.size, 6)
