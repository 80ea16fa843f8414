"""evaluate: the base's predictions of the evaluation text, which every file of the matrix is compared with."""

import json
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from quantmill.artifact import Context
from quantmill.steps.step import Cost, Estimates, Inputs, Step, Task, always

WORK = ".work"  # below the output folder while the step runs
PREDICTIONS = "predictions.dat"  # what llama-perplexity keeps of the base's


class Params(TypedDict):
    """`text`: [input, what reports call it]. `toolchain`: the facts of the llama.cpp whose llama-perplexity does it,
    with `args`, where that is not our own engine (then `arithmetic` is llama.cpp). No part of the key: `memory`, in
    bytes, and `generation`, which has a field of its own there."""

    text: list[str]
    n_ctx: int
    arithmetic: str
    chunks: NotRequired[int]
    toolchain: NotRequired[Mapping[str, Any]]
    args: NotRequired[list[str]]
    memory: NotRequired[int]
    generation: NotRequired[int]


def run(inputs: Inputs, params: Params, out: Path, context: Context) -> None:
    """Write what quality.base_predictions says: states, tokens, and the base's perplexity; or with a toolchain its own
    file of predictions, and the perplexity.

    `inputs`: `model.gguf`, and `texts/<name>` with the evaluation text.
    """
    if "toolchain" in params:
        _by_llama_cpp(inputs, params, out, context)
        return
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


def _by_llama_cpp(inputs: Inputs, params: Params, out: Path, context: Context) -> None:
    from quantmill.toolchain.perplexity_tool import PerplexityOptions, predict

    input_, name = params["text"]
    work, made = out / WORK, out / PREDICTIONS
    shutil.rmtree(work, ignore_errors=True)  # of a killed run, of which a tool takes nothing up
    made.unlink(missing_ok=True)
    asked = PerplexityOptions(inputs["model.gguf"].path, params["n_ctx"], params.get("chunks"), params.get("args", ()))
    text, facts = inputs[f"texts/{input_}"].path, params["toolchain"]
    found = predict(facts, asked, text, made, work, context.threads, context.progress)
    said = {"text": name, "chunks": found.pop("chunks"), "n_ctx": params["n_ctx"], "arithmetic": params["arithmetic"]}
    said |= {"by": ", ".join([f"llama.cpp {facts['llama_cpp']}", *facts["backends"]])}
    report = json.dumps(said | found, indent=1, ensure_ascii=False)
    (out / "evaluation.json").write_text(report + "\n", encoding="utf-8")


def outputs(params: Mapping[str, Any], inputs: Collection[str], found: Collection[str]) -> Collection[str]:
    """The predictions, as whoever made them keeps them, and what is said of them."""
    return (
        (PREDICTIONS, "evaluation.json") if "toolchain" in params else ("states.npy", "tokens.npy", "evaluation.json")
    )


def cost(task: Task, estimates: Estimates) -> Cost:
    """The text's way through the base, and its states."""
    return Cost(*estimates.evaluation())


STEP = Step(
    name="evaluate",
    version=1,
    doc="make the base's predictions of the evaluation text",
    run=run,
    outputs=outputs,
    resumes=always,
    counts="passes",
    cost=cost,
)
