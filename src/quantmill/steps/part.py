"""part: some tensors of the base, quantized; other files copy them from here (see distributed/parts.py)."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

from quantmill.artifact import Context
from quantmill.steps.quant import LENDS, recheck, sharing_of, write_spans
from quantmill.steps.step import STREAM_MEMORY, Cost, Estimates, Inputs, Step, Task


class Params(TypedDict, total=False):
    """`types`: type by tensor; `zero_as_one` and `allow_requantize` as quant's. `generation`, of the arithmetic, is a
    field of the key of its own."""

    types: Mapping[str, str]
    zero_as_one: bool
    allow_requantize: bool
    generation: int


def run(inputs: Inputs, params: Params, out: Path, context: Context) -> None:
    """Write `model.gguf` with the tensors of `types`, and `tensors.json`, as quant does; `inputs` are quant's."""
    from quantmill.quant.quantizer import quantize_tensors
    from quantmill.reference.spans import of_generation

    imatrix = inputs.get("imatrix.dat")
    report = quantize_tensors(
        inputs["model.gguf"].path,
        out / "model.gguf",
        params["types"],
        imatrix=imatrix.path if imatrix else None,
        zero_as_one=params.get("zero_as_one", False),
        allow_requantize=params.get("allow_requantize", False),
        reference=of_generation(params.get("generation")),
        threads=context.threads,
        sharing=sharing_of(inputs, context),
        progress=context.progress,
    )
    write_spans(out, report)


def cost(task: Task, estimates: Estimates) -> Cost:
    """The kernels' time, and two passes of what is written: nothing but that is hashed."""
    seconds, size = estimates.quantization(task)
    return Cost(seconds + estimates.pass_seconds(2, size), size)


STEP = Step(
    name="part",
    version=1,
    doc="quantize some tensors, for files that copy them",
    run=run,
    recheck=recheck,
    outputs=("model.gguf", "tensors.json"),
    prefixes=(),
    lends=LENDS,
    memory=STREAM_MEMORY,
    bulky=True,
    cost=cost,
)
