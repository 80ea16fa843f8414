"""quant: one ftype of the matrix, from the base GGUF and, where there is one, its imatrix."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quantmill import gguf
from quantmill.artifact import Artifact, Context
from quantmill.compat import check_options, generation_of
from quantmill.errors import UsageError, nearest
from quantmill.quant.driver import quantize_file
from quantmill.quant.report import Report
from quantmill.quant.sharing import Sharing

# Params that quantize_file takes by the same names.
OPTIONS = (
    "output_tensor_type",
    "token_embedding_type",
    "tensor_types",
    "pure",
    "leave_output_tensor",
    "allow_requantize",
    "include_weights",
    "exclude_weights",
    "override_kv",
)
PARAMS = ("ftype", "llama_cpp", "generation", "imatrix_name", *OPTIONS)


def run(inputs: Mapping[str, Artifact], params: Mapping[str, Any], out: Path, context: Context) -> None:
    """Write `model.gguf` to `out`: `inputs["model.gguf"]` as `params["ftype"]`.

    `inputs["imatrix.dat"]` is optional; `params["imatrix_name"]` is what the file says it was called, for the path of
    an input is this machine's own business. The arithmetic is `params["generation"]`'s or that of the tag
    `params["llama_cpp"]`, generation 1 without either. Pairs are lists: `tensor_types` [[regex, type], ...],
    `override_kv` [[key, value], ...].

    With `inputs["tensors.json"]`, the base's tensors' digests, tensors that `context.find` knows are copied, and
    `tensors.json` lists those of the new file that others may copy: key → offset in the file, size, sha256.
    """
    for name in params:
        if name not in PARAMS:
            raise UsageError(f"quant has no parameter {name!r}{nearest(name, PARAMS)}; it has {', '.join(PARAMS)}")
    tag = params.get("llama_cpp")
    if tag is not None:
        check_options(tag, tensor_types=bool(params.get("tensor_types")))
    options = {name: params[name] for name in OPTIONS if name in params}
    for name in ("tensor_types", "override_kv"):
        if name in options:
            options[name] = [tuple(pair) for pair in options[name]]
    imatrix = inputs.get("imatrix.dat")
    sharing = sharing_of(inputs, context)
    report = quantize_file(
        inputs["model.gguf"].path,
        out / "model.gguf",
        params["ftype"],
        imatrix=imatrix.path if imatrix else None,
        imatrix_name=params.get("imatrix_name") or "imatrix.dat",
        generation=params.get("generation") or (generation_of(tag) if tag else 1),
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
