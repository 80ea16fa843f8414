"""convert: a model in Hugging Face layout → one GGUF file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from quantmill.artifact import Context
from quantmill.steps.step import STREAM_MEMORY, Cost, Estimates, Inputs, Step, Task, check_names

WORK = ".work"  # below the output folder while a llama.cpp's converter runs


class Params(TypedDict, total=False):
    """The type of the file (BF16 without), the model's name, and for a tokenizer whose pattern has no known name that
    name. `generation` has a field of its own in the key; `converter` is whose facts that has, where they are not the
    first's, so that the key tells when they become better known. `toolchain`: the facts of the llama.cpp whose
    converter does it, where that is not our own; `projector`: it makes the model's projector instead."""

    type: str
    name: str
    pre_tokenizer: str
    converter: str
    toolchain: Mapping[str, Any]
    projector: bool
    generation: int


def run(inputs: Inputs, params: Params, out: Path, context: Context) -> None:
    """Writes `out`/model.gguf of the model's files, which are the inputs by name. Raises as `conversion.convert`, or as
    `converter.convert` with a toolchain."""
    from quantmill.checkpoint.conversion import convert
    from quantmill.reference.spans import of_generation

    check_names("convert", params, Params, untold=("generation", "converter", "toolchain", "projector"))
    files = {name: artifact.path for name, artifact in inputs.items()}
    if "toolchain" in params:
        from quantmill.toolchain import convert_script

        work = out / WORK
        work.mkdir()
        named, projector = (params.get("type", "BF16"), params.get("name", "")), params.get("projector", False)
        convert_script.convert(
            params["toolchain"], files, out / "model.gguf", *named, work, context.progress, projector=projector
        )
        return
    reference = of_generation(params.get("generation"))
    name, pre_tokenizer = params.get("name"), params.get("pre_tokenizer")
    convert(files, out / "model.gguf", params.get("type", "BF16"), name, pre_tokenizer, context, reference=reference)


def cost(task: Task, estimates: Estimates) -> Cost:
    """Three passes of the base's bytes: read, written, hashed."""
    return Cost(estimates.pass_seconds(3, estimates.base_bytes), estimates.base_bytes)


STEP = Step(
    name="convert",
    version=1,
    doc="make the base GGUF file of a model in Hugging Face layout",
    run=run,
    outputs=("model.gguf",),
    prefixes=("", "mmproj"),
    memory=STREAM_MEMORY,
    bulky=True,
    cost=cost,
)
