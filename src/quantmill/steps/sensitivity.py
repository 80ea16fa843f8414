"""sensitivity: what rounding each of the base's tensors costs, of which mixes of every size are found."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from quantmill.artifact import Context
from quantmill.steps.evaluate import WORK
from quantmill.steps.mix import Params as MixParams
from quantmill.steps.mix import target_of
from quantmill.steps.step import Cost, Estimates, Inputs, Step, Task, always


class Params(TypedDict):
    """`texts`: [[input, what errors call it, weight or null], ...], of which `chunks` are taken, evenly spaced.
    `types`: those that tensors may have, sorted. `imatrix_name` and `zero_as_one` are quant's. No part of the key:
    `memory`, in bytes; `targets`, the mix step's params by name, of which a wrong one is told before anything is
    measured; and `generation`, which has a field of its own there."""

    texts: list[list[Any]]
    n_ctx: int
    chunks: int
    types: list[str]
    imatrix_name: str
    zero_as_one: NotRequired[bool]
    memory: NotRequired[int]
    targets: NotRequired[Mapping[str, MixParams]]
    generation: NotRequired[int]


def run(inputs: Inputs, params: Params, out: Path, context: Context) -> None:
    """Write `sensitivity.json`: mix_search.search.Measured.

    `inputs`: `model.gguf`, `imatrix.dat`, and the texts as `texts/<name>`.
    """
    from quantmill.engine.chunks import check_vocabulary, tokenize
    from quantmill.engine.evaluation import Run, open_model
    from quantmill.mix_search.search import Sought, check_target, measure, spread
    from quantmill.quant.overrides import overrides_of
    from quantmill.reference.spans import of_generation
    from quantmill.steps.imatrix import texts_of
    from quantmill.vocabulary.tokenizer import load

    reference, base = of_generation(params.get("generation")), inputs["model.gguf"].path
    tokenizer = load(base)
    with open_model(base, "the base") as model:
        check_vocabulary(tokenizer, model.described("token_embd.weight")[0][1], "the base")
    tokens = tokenize(texts_of(inputs, params), tokenizer, params["n_ctx"], reference=reference)
    work = out / WORK
    work.mkdir(exist_ok=True)
    settings = Run("f32", context.threads, params.get("memory") or Run.memory, work, context.progress, reference)
    sought = Sought(
        base,
        inputs["imatrix.dat"].path,
        params["imatrix_name"],
        reference,
        params.get("zero_as_one", False),
        "the base",
    )
    chunks = spread(tokens, params["chunks"])
    count, length = chunks.shape
    for name, asked in params.get("targets", {}).items():
        called, target = replace(sought, place=name), target_of(base, asked["target"])
        check_target(called, target, (count, length), asked["types"], overrides_of(asked))
    found = measure(sought, chunks, settings, work, params["types"], keep=True)
    text = json.dumps(vars(found), indent=1)
    (out / "sensitivity.json").write_text(text + "\n", encoding="utf-8")
    shutil.rmtree(work)


def cost(task: Task, estimates: Estimates) -> Cost:
    """The text's ways through the base, and each tensor in each type."""
    return Cost(estimates.search_seconds())


STEP = Step(
    name="sensitivity",
    version=1,
    doc="measure what rounding each of the base's tensors costs",
    run=run,
    outputs=("sensitivity.json",),
    resumes=always,
    counts="passes",
    bulky=True,
    cost=cost,
)
