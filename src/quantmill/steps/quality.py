"""quality: how far one file of the matrix is from the base, on the evaluation text and by tensor."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from quantmill.artifact import Context
from quantmill.steps.evaluate import PREDICTIONS, WORK
from quantmill.steps.step import Cost, Estimates, Inputs, Step, Task, always


class Params(TypedDict):
    """`toolchain`: the facts of the llama.cpp whose llama-perplexity measures the file, with `args`, in chunks of
    `n_ctx` tokens. No part of the key: `place`, what errors call the file, and `memory`, in bytes."""

    arithmetic: str
    place: str
    toolchain: NotRequired[Mapping[str, Any]]
    n_ctx: NotRequired[int]
    args: NotRequired[list[str]]
    memory: NotRequired[int]


def run(inputs: Inputs, params: Params, out: Path, context: Context) -> None:
    """Write `quality.json`: divergence.Quality, `bits` a weight, and `tensors`, the errors by tensor.

    `inputs`: `model.gguf`, `base.gguf`, and the evaluate step's `states.npy` and `tokens.npy`; or `measured.json`, what
    was measured of the file by llama.cpp. With a toolchain that is what is written, of `model.gguf` and the evaluate
    step's predictions.
    """
    if "toolchain" in params:
        _write(out, _by_llama_cpp(inputs, params, out / WORK, context))
        return
    if "measured.json" in inputs:
        from quantmill.quality.measurement import with_tensors

        measured = json.loads(inputs["measured.json"].path.read_bytes())
        _write(out, with_tensors(measured, inputs["base.gguf"].path, inputs["model.gguf"].path, params["place"]))
        context.progress(1, 1)
        return
    from quantmill.engine.evaluation import Run
    from quantmill.quality.measurement import against_stored

    work = out / WORK
    work.mkdir(exist_ok=True)
    settings = Run(params["arithmetic"], context.threads, params.get("memory") or Run.memory, work, context.progress)
    files = {name: artifact.path for name, artifact in inputs.items()}
    found = against_stored(
        files["base.gguf"], files["states.npy"], files["tokens.npy"], files["model.gguf"], settings, params["place"]
    )
    shutil.rmtree(work)
    _write(out, found)


def _by_llama_cpp(inputs: Inputs, params: Params, work: Path, context: Context) -> dict[str, Any]:
    from quantmill.toolchain.perplexity_tool import PerplexityOptions, compare

    shutil.rmtree(work, ignore_errors=True)  # of a killed run, of which a tool takes nothing up
    asked = PerplexityOptions(inputs["model.gguf"].path, params["n_ctx"], args=params.get("args", ()))
    predictions = inputs[PREDICTIONS].path
    return compare(params["toolchain"], asked, predictions, work, context.threads, context.progress)


def _write(out: Path, found: Mapping[str, Any]) -> None:
    text = json.dumps(found, indent=1, ensure_ascii=False)
    (out / "quality.json").write_text(text + "\n", encoding="utf-8")


def cost(task: Task, estimates: Estimates) -> Cost:
    """The text's way through the file, and the comparison of both predictions."""
    return Cost(estimates.quality_seconds(task.label))


STEP = Step(
    name="quality",
    version=2,
    doc="measure how far a file is from the base, on the evaluation text",
    run=run,
    judges="model.gguf",
    outputs=("quality.json",),
    prefixes=("", "measure"),
    resumes=always,
    counts="passes",
    cost=cost,
)
