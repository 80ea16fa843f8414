"""imatrix: the importance of the base's matrices' columns, measured on the calibration text."""

import hashlib
import json
import shutil
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from quantmill.artifact import Context
from quantmill.errors import QuantmillError
from quantmill.steps.step import Cost, Estimates, Inputs, Step, Task, always, check_names
from quantmill.store.key import canonical

if TYPE_CHECKING:
    from quantmill.engine.chunks import Text
    from quantmill.engine.importance_matrix import Options

BESIDE = ("memory", "generation", "form")  # what of the params does not decide the sums
WORK = ".work"  # below the output folder while the step runs
NAMES = ("imatrix.gguf", "imatrix.dat")  # of the matrix, as its span has it (ImatrixRules.file_name)


class Params(TypedDict):
    """`texts`: [[input, what the file calls it, weight or null], ...]; what is not required has the default of
    importance_matrix.Options. `form`: of the file, `dat` or `gguf`, where it is not the span's.
    `toolchain`: the facts of the llama.cpp whose llama-imatrix does it, with `args`, where that is not our own (then
    `arithmetic` is llama.cpp). `memory`, in bytes, is
    no part of the key, and `generation` has a field of its own there."""

    arithmetic: str
    texts: list[list[Any]]
    n_ctx: NotRequired[int]
    chunks: NotRequired[int]
    from_chunk: NotRequired[int]
    process_output: NotRequired[bool]
    process_embedding: NotRequired[bool]
    perplexity: NotRequired[bool]
    parse_special: NotRequired[bool]
    form: NotRequired[str]
    toolchain: NotRequired[Mapping[str, Any]]
    args: NotRequired[list[str]]
    memory: NotRequired[int]
    generation: NotRequired[int]


def run(inputs: Inputs, params: Params, out: Path, context: Context) -> None:
    """Write the matrix, as llama-imatrix of the span does or in the form asked for, and `report.json`.

    `inputs`: `model.gguf`, and the texts, in UTF-8, as `texts/<name>`.
    """
    from quantmill.engine.evaluation import Run
    from quantmill.engine.importance_matrix import measure
    from quantmill.imatrix import gguf_form
    from quantmill.reference.spans import of_generation

    check_names("imatrix", params, Params, untold=("generation",))
    if "toolchain" in params:
        _by_llama_cpp(inputs, params, out, context)
        return
    texts = texts_of(inputs, params)
    work = out / WORK
    work.mkdir(exist_ok=True)
    reference, memory = of_generation(params.get("generation")), params.get("memory") or Run.memory
    settings = Run(params["arithmetic"], context.threads, memory, work, context.progress, reference)
    lent = _lent(inputs, params, context)
    form = params.get("form", reference.imatrix.form)
    options = options_of(params)
    found = measure(inputs["model.gguf"].path, texts, options, settings, "the base", lent=lent, form=form)
    target = out / reference.imatrix.file_name(form)
    if form == "gguf":
        gguf_form.write(target, found.sums.stored(options.n_ctx))
    else:
        dataset = ", ".join(text.name for text in texts).encode()
        target.write_bytes(found.sums.legacy(reference, dataset, found.chunks))
    _write_report(out, found.report)
    shutil.rmtree(work)


def _by_llama_cpp(inputs: Inputs, params: Params, out: Path, context: Context) -> None:
    from quantmill import imatrix
    from quantmill.engine.importance_matrix import coverage
    from quantmill.reference.spans import of_generation
    from quantmill.toolchain.importance_tool import ImatrixOptions, measure
    from quantmill.toolchain.subprogram import ToolFailed

    ((input_, name, _),) = params["texts"]
    options = options_of(params)
    rules = of_generation(params.get("generation")).imatrix
    work, target = out / WORK, out / rules.file_name(rules.form)
    shutil.rmtree(work, ignore_errors=True)  # of a killed run, of which a tool takes nothing up
    work.mkdir()
    # A recipe that asks llama-imatrix for the embedding is refused (recipe.calibration_table).
    theirs = {option: value for option, value in vars(options).items() if option != "process_embedding"}
    asked = ImatrixOptions(
        inputs["model.gguf"].path, inputs[f"texts/{input_}"].path, name, args=params.get("args", ()), **theirs
    )
    made = work / target.name
    found = measure(params["toolchain"], asked, made, work / "text", context.threads, context.progress)
    try:
        sums, chunks = imatrix.load(made, options.n_ctx), imatrix.read(made).chunks
    except QuantmillError as error:
        told = f"llama-imatrix of llama.cpp {params['toolchain']['llama_cpp']}"
        raise ToolFailed(f"{told} wrote no matrix: {str(error).replace(f'{work}/', '')}") from None
    measured = {"texts": [name], "chunks": chunks, "n_ctx": options.n_ctx, "tokens": chunks * options.n_ctx}
    _write_report(out, measured | {"arithmetic": params["arithmetic"]} | found | coverage(sums, whole_only=False))
    made.replace(target)
    shutil.rmtree(work)


def _write_report(out: Path, report: Mapping[str, Any]) -> None:
    text = json.dumps(report, indent=1, ensure_ascii=False)
    (out / "report.json").write_text(text + "\n", encoding="utf-8")


def texts_of(inputs: Inputs, params: Mapping[str, Any]) -> "list[Text]":
    """The texts that the step's params name."""
    from fractions import Fraction

    from quantmill.engine.chunks import Text, read_text

    return [
        Text(name, read_text(inputs[f"texts/{input_}"].path, name), None if weight is None else Fraction(weight))
        for input_, name, weight in params["texts"]
    ]


def options_of(params: Params) -> "Options":
    """What of the step's params decides the sums beside model and texts."""
    from quantmill.engine.importance_matrix import Options

    return Options(
        n_ctx=params.get("n_ctx", Options.n_ctx),
        chunks=params.get("chunks"),
        from_chunk=params.get("from_chunk", Options.from_chunk),
        process_output=params.get("process_output", Options.process_output),
        process_embedding=params.get("process_embedding", Options.process_embedding),
        perplexity=params.get("perplexity", Options.perplexity),
        parse_special=params.get("parse_special", Options.parse_special),
    )


def lent_key(inputs: Inputs, params: Params) -> str:
    """Of what the sums come from, by which others than this step may have computed them (see steps/wave.py)."""
    read = {name: file.sha256 for name, file in inputs.items() if name == "model.gguf" or name.startswith("texts/")}
    decide = {name: value for name, value in params.items() if name in Params.__annotations__ and name not in BESIDE}
    return hashlib.sha256(canonical(["imatrix", read, decide]).encode()).hexdigest()


def _lent(inputs: Inputs, params: Params, context: Context) -> bytes | None:
    span = context.find(lent_key(inputs, params))
    if span is None:
        return None
    with suppress(OSError), open(span.path, "rb") as file:
        file.seek(span.offset)
        data = file.read(span.size)
        if hashlib.sha256(data).hexdigest() == span.sha256:
            return data
    return None


def cost(task: Task, estimates: Estimates) -> Cost:
    """The text's way through the base."""
    return Cost(estimates.imatrix_seconds())


def outputs(params: Mapping[str, Any], inputs: Collection[str], found: Collection[str]) -> Collection[str]:
    """The matrix, by the one of its names that there is, and the report."""
    return (next((name for name in NAMES if name in found), NAMES[0]), "report.json")


STEP = Step(
    name="imatrix",
    version=1,
    doc="measure the importance of the base's columns on the calibration text",
    run=run,
    outputs=outputs,
    resumes=always,
    counts="passes",
    divides="text",
    cost=cost,
)
