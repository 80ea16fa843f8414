"""part: some tensors of the base, quantized; other files copy them from here (see distributed/parts.py)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quantmill.artifact import Artifact, Context
from quantmill.quant.driver import quantize_tensors
from quantmill.reference.spans import of_generation
from quantmill.steps.quant import sharing_of, write_spans


def run(inputs: Mapping[str, Artifact], params: Mapping[str, Any], out: Path, context: Context) -> None:
    """Write `model.gguf` with the tensors of `params["types"]`, name → type, and `tensors.json`, as quant does.

    `inputs` and `params["generation"]` are the quant step's.
    """
    imatrix = inputs.get("imatrix.dat")
    report = quantize_tensors(
        inputs["model.gguf"].path,
        out / "model.gguf",
        params["types"],
        imatrix=imatrix.path if imatrix else None,
        reference=of_generation(params.get("generation")),
        threads=context.threads,
        sharing=sharing_of(inputs, context),
        progress=context.progress,
    )
    write_spans(out, report)
