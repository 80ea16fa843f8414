"""quant: one ftype of the matrix, from the base GGUF and, where there is one, its imatrix."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quantmill import gguf
from quantmill.artifact import Artifact, Context
from quantmill.errors import UsageError, nearest
from quantmill.quant.driver import quantize_file
from quantmill.quant.outcome import Report
from quantmill.quant.sharing import Sharing
from quantmill.reference.spans import of_generation

# Params that quantize_file takes by the same names.
OPTIONS = ("output_tensor_type", "token_embedding_type", "tensor_types")
PARAMS = ("ftype", "generation", "imatrix_name", *OPTIONS)


def run(inputs: Mapping[str, Artifact], params: Mapping[str, Any], out: Path, context: Context) -> None:
    """Write `model.gguf` to `out`: `inputs["model.gguf"]` as `params["ftype"]`.

    `inputs["imatrix.dat"]` is optional; `params["imatrix_name"]` is what the file says it was called, for the path of
    an input is this machine's own business. The arithmetic is `params["generation"]`'s, 1 without. Pairs are lists:
    `tensor_types` [[regex, type], ...].

    With `inputs["tensors.json"]`, the base's tensors' digests, tensors that `context.find` knows are copied, and
    `tensors.json` lists those of the new file that others may copy: key → offset in the file, size, sha256.
    """
    for name in params:
        if name not in PARAMS:
            raise UsageError(f"quant has no parameter {name!r}{nearest(name, PARAMS)}; it has {', '.join(PARAMS)}")
    options = {name: params[name] for name in OPTIONS if name in params}
    if "tensor_types" in options:
        options["tensor_types"] = [tuple(pair) for pair in options["tensor_types"]]
    imatrix = inputs.get("imatrix.dat")
    sharing = sharing_of(inputs, context)
    report = quantize_file(
        inputs["model.gguf"].path,
        out / "model.gguf",
        params["ftype"],
        imatrix=imatrix.path if imatrix else None,
        imatrix_name=params.get("imatrix_name") or "imatrix.dat",
        reference=of_generation(params.get("generation")),
        threads=context.threads,
        sharing=sharing,
        progress=context.progress,
        **options,
    )
    if sharing:
        write_spans(out, report)


def sharing_of(inputs: Mapping[str, Artifact], context: Context) -> Sharing | None:
    """Who lends tensors, when the base's digests are among the inputs."""
    digests = inputs.get("tensors.json")
    return Sharing(json.loads(digests.path.read_bytes()), context.find) if digests else None


def write_spans(out: Path, report: Report) -> None:
    """Write `tensors.json`: where in `model.gguf` the tensors are that others may copy."""
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
