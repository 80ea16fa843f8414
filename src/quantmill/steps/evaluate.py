"""evaluate: the base's predictions of the evaluation text, which every file of the matrix is compared with."""

import shutil
from pathlib import Path
from typing import NotRequired, TypedDict

from quantmill.artifact import Context
from quantmill.steps.step import Cost, Estimates, Inputs, Step, Task, always

WORK = ".work"  # below the output folder while the step runs


class Params(TypedDict):
    """`text`: [input, what reports call it]. No part of the key: `memory`, in bytes, and
    `generation`, which has a field of its own there."""

    text: list[str]
    n_ctx: int
    arithmetic: str
    chunks: NotRequired[int]
    memory: NotRequired[int]
    generation: NotRequired[int]


def run(inputs: Inputs, params: Params, out: Path, context: Context) -> None:
    """Write what quality.base_predictions says: states, tokens, and the base's perplexity.

    `inputs`: `model.gguf`, and `texts/<name>` with the evaluation text.
    """
    from quantmill.engine.chunks import Text, check_vocabulary, read_text, tokenize
    from quantmill.engine.evaluation import Run, evaluate, open_model
    from quantmill.quality.base_predictions import save
    from quantmill.reference.spans import of_generation
    from quantmill.vocabulary.tokenizer import load

    input_, name = params["text"]
    text = read_text(inputs[f"texts/{input_}"].path, name)
    model = inputs["model.gguf"].path
    work = out / WORK
    work.mkdir(exist_ok=True)
    reference, memory = of_generation(params.get("generation")), params.get("memory") or Run.memory
    settings = Run(params["arithmetic"], context.threads, memory, work, context.progress, reference)
    tokenizer = load(model)
    with open_model(model, "the base") as opened:
        check_vocabulary(tokenizer, opened.described("token_embd.weight")[0][1], "the base")
        tokens = tokenize(
            [Text(name, text)], tokenizer, params["n_ctx"], count=params.get("chunks"), reference=reference
        )
        with evaluate(opened, tokens, settings) as hidden:
            facts = {"text": name, "chunks": len(tokens), "n_ctx": params["n_ctx"], "arithmetic": settings.arithmetic}
            save(hidden, tokens, facts, out)
    shutil.rmtree(work)


def cost(task: Task, estimates: Estimates) -> Cost:
    """The text's way through the base, and its states."""
    return Cost(*estimates.evaluation())


STEP = Step(
    name="evaluate",
    version=1,
    doc="make the base's predictions of the evaluation text",
    run=run,
    outputs=("states.npy", "tokens.npy", "evaluation.json"),
    resumes=always,
    counts="passes",
    cost=cost,
)
