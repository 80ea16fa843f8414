"""quality: how far one file of the matrix is from the base, on the evaluation text and by tensor."""

import json
import shutil
from pathlib import Path
from typing import NotRequired, TypedDict

from quantmill.artifact import Context
from quantmill.steps.evaluate import WORK
from quantmill.steps.step import Cost, Estimates, Inputs, Step, Task, always


class Params(TypedDict):
    """No part of the key: `place`, what errors call the file, and `memory`, in bytes."""

    arithmetic: str
    place: str
    memory: NotRequired[int]


def run(inputs: Inputs, params: Params, out: Path, context: Context) -> None:
    """Write `quality.json`: divergence.Quality, `bits` a weight, and `tensors`, the errors by tensor.

    `inputs`: `model.gguf`, `base.gguf`, and the evaluate step's `states.npy` and `tokens.npy`.
    """
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
    resumes=always,
    counts="passes",
    cost=cost,
)
