"""quant: one ftype of the matrix, from the base GGUF and, where there is one, its imatrix."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from quantmill.artifact import Context
from quantmill.steps.mix import mix_of
from quantmill.steps.step import STREAM_MEMORY, Cost, Estimates, Inputs, Sample, Step, Task, check_names

if TYPE_CHECKING:
    from quantmill.quant.outcome import QuantizeReport
    from quantmill.quant.sharing import Sharing

LENDS = {"model.gguf": "tensors.json"}


class Params(TypedDict):
    """`ftype`: of a file whose types were searched, its mix has it. `imatrix_name`: what the file says its imatrix was
    called; `tensor_types`: [[regex, type], ...]; `zero_as_one`: columns without importance weigh alike;
    `allow_requantize`: the base may be quantized. `generation`, of the arithmetic, is a field of the key of its own."""

    ftype: NotRequired[str]
    generation: NotRequired[int]
    imatrix_name: NotRequired[str]
    output_tensor_type: NotRequired[str]
    token_embedding_type: NotRequired[str]
    tensor_types: NotRequired[list[list[str]]]
    pure: NotRequired[bool]
    zero_as_one: NotRequired[bool]
    allow_requantize: NotRequired[bool]


def run(inputs: Inputs, params: Params, out: Path, context: Context) -> None:
    """Write `model.gguf` to `out`: the input of that name as `ftype`, with the input `imatrix.dat` where there is one.

    With the input `mix.json`, its types by tensor. With `tensors.json`, the base's tensors' digests, tensors that
    `context.find` knows are copied, and `tensors.json` lists those of the new file that others may copy: key → offset
    in the file, size, sha256.
    """
    from quantmill.mix_search.space import KEY
    from quantmill.quant.quantizer import quantize_file
    from quantmill.reference.spans import of_generation

    check_names("quant", params, Params)
    imatrix = inputs.get("imatrix.dat")
    sharing = sharing_of(inputs, context)
    mix = mix_of(inputs)
    asked = {**params, **mix}
    report = quantize_file(
        inputs["model.gguf"].path,
        out / "model.gguf",
        asked["ftype"],
        imatrix=imatrix.path if imatrix else None,
        imatrix_name=params.get("imatrix_name") or "imatrix.dat",
        reference=of_generation(params.get("generation")),
        threads=context.threads,
        sharing=sharing,
        progress=context.progress,
        output_tensor_type=params.get("output_tensor_type"),
        token_embedding_type=params.get("token_embedding_type"),
        tensor_types=[(pattern, type_) for pattern, type_ in asked.get("tensor_types", ())],
        override_kv=[(KEY, mix["note"])] if mix else [],
        pure=params.get("pure", False),
        zero_as_one=params.get("zero_as_one", False),
        allow_requantize=params.get("allow_requantize", False),
        place="the base",
    )
    if sharing:
        write_spans(out, report)


def recheck(
    inputs: Inputs,
    params: Mapping[str, Any],
    made: Mapping[str, Path],
    work: Path,
    context: Context,
    sample: Sample,
) -> list[str]:
    """The tensors of a sample that come out otherwise when they are quantized again."""
    from quantmill.quant.double_check import differing
    from quantmill.reference.spans import of_generation

    imatrix = inputs.get("imatrix.dat")
    return differing(
        inputs["model.gguf"].path,
        made["model.gguf"],
        work,
        *sample,
        imatrix=imatrix.path if imatrix else None,
        zero_as_one=params.get("zero_as_one", False),
        allow_requantize=params.get("allow_requantize", False),
        reference=of_generation(params.get("generation")),
        threads=context.threads,
    )


def sharing_of(inputs: Inputs, context: Context) -> "Sharing | None":
    """Who lends tensors, when the base's digests are among the inputs."""
    from quantmill.quant.sharing import Sharing

    digests = inputs.get("tensors.json")
    return Sharing(json.loads(digests.path.read_bytes()), context.find) if digests else None


def write_spans(out: Path, report: "QuantizeReport") -> None:
    """Write `tensors.json`: where in `model.gguf` the tensors are that others may copy."""
    from quantmill import gguf

    with gguf.read(out / "model.gguf") as file:
        spans = {
            tensor.key: {
                "offset": file.data_offset + file.tensors[tensor.name].offset,
                "size": tensor.bytes,
                "sha256": tensor.sha256,
            }
            for tensor in report.tensors
            if tensor.key
        }
    text = json.dumps(spans, indent=0, sort_keys=True)
    (out / "tensors.json").write_text(text + "\n", encoding="utf-8")


def cost(task: Task, estimates: Estimates) -> Cost:
    """The kernels' time for what nobody lends, and three passes of the file: the base read, it written and hashed."""
    seconds, size = estimates.quantization(task)
    return Cost(seconds + estimates.pass_seconds(3, size), size)


def outputs(params: Mapping[str, Any], inputs: Collection[str], found: Collection[str]) -> Collection[str]:
    """The file, and what of it others may copy where that can be told."""
    return ("model.gguf", "tensors.json") if "tensors.json" in inputs else ("model.gguf",)


STEP = Step(
    name="quant",
    version=1,
    doc="quantize the base",
    run=run,
    recheck=recheck,
    outputs=outputs,
    lends=LENDS,
    divides="tensors",
    memory=STREAM_MEMORY,
    bulky=True,
    cost=cost,
)
