"""The importance of a model's matrices' columns, measured on texts, and what the texts reached of it.

The bytes are the same for any number of threads, level of instructions and amount of memory; a run that was killed goes
on from the last whole layer.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from quantmill.artifact import silent
from quantmill.engine.chunks import Text, check_vocabulary, tokenize
from quantmill.engine.evaluation import Model, Run, collect, open_model
from quantmill.engine.stream import Tokens
from quantmill.engine.wave import gathered
from quantmill.imatrix.summary import ACTIVE
from quantmill.imatrix.sums import Sum, Sums
from quantmill.reference.reference import Reference
from quantmill.statistics import rounded
from quantmill.vocabulary.tokenizer import load

SHOWN = 5  # tensors at each end of the report


@dataclass(frozen=True)
class Options:
    """What decides the bytes beside model and texts; `chunks` None: all of them."""

    n_ctx: int = 512
    chunks: int | None = None
    from_chunk: int = 0
    process_output: bool = False
    perplexity: bool = True  # in the report
    parse_special: bool = False
    process_embedding: bool = False


@dataclass(frozen=True)
class ImatrixMeasurement:
    """`sums` are in the order of the model's graph; `report` is plain JSON."""

    sums: Sums
    chunks: int
    report: Mapping[str, Any]


def text_chunks(
    reference: Reference, model: Model, path: Path, texts: Sequence[Text], options: Options, place: str
) -> Tokens:
    """The texts as the model shall see them."""
    tokenizer = load(path, reference)
    check_vocabulary(tokenizer, model.described("token_embd.weight")[0][1], place)
    return tokenize(
        texts,
        tokenizer,
        options.n_ctx,
        first=options.from_chunk,
        count=options.chunks,
        parse_special=options.parse_special,
        reference=reference,
    )


def measure(
    model: Path,
    texts: Sequence[Text],
    options: Options,
    run: Run,
    place: str,
    announce: Callable[[int, int], None] = silent,
    lent: bytes | None = None,
    form: str = "dat",
) -> ImatrixMeasurement:
    """The sums of a GGUF's or model folder's matrices over the texts, and a report. `place` is what errors call the
    model; `announce(chunks, tokens)` is told before the work; `lent` is what several machines computed
    (forward.wave.gather); `form` is that of the file to be. Raises a ModelError or ForwardError."""
    with open_model(model, place) as opened:
        chunks = text_chunks(run.reference, opened, model, texts, options, place)
        announce(len(chunks), chunks.size)
        if lent is None:
            found = collect(
                opened,
                chunks,
                run,
                process_output=options.process_output,
                process_embedding=options.process_embedding,
                perplexity=options.perplexity,
            )
        else:
            found = gathered(run.reference, lent, options.n_ctx)
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
        "arithmetic": run.arithmetic,
        "perplexity": None if found.perplexity is None else rounded(found.perplexity),
        "perplexity_error": None if found.perplexity_error is None else rounded(found.perplexity_error),
        **coverage(sums, form == "dat" and run.reference.imatrix.whole_only),
    }
    return ImatrixMeasurement(sums, max((sum_.calls for sum_ in tensors.values()), default=0), report)


def coverage(sums: Sums, whole_only: bool) -> dict[str, Any]:
    """How much of the tensors the text reached; `whole_only`: the file leaves out those of which it did not reach all.

    `entries`: their number in the file; `coverage`: the share of a tensor's columns whose mean squared input is above
    1e-5, of the tensors with the largest and the smallest; `never_hit`: the experts that no token chose, by tensor;
    `left_out`: those tensors that the file leaves out for that.
    """
    shares = sorted((_share(sum_), name) for name, sum_ in sums.tensors.items())
    never = {name: np.flatnonzero(sum_.counts == 0).tolist() for name, sum_ in sums.tensors.items()}
    whole = set(sums.whole() if whole_only else sums.tensors)
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
