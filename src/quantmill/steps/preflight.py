"""preflight: what the imatrix and the model's shape let foresee, before anything large is computed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quantmill import gguf
from quantmill.artifact import Artifact, Context
from quantmill.quant.preflight import PreflightFailed, check_base, findings, mixes


def run(inputs: Mapping[str, Artifact], params: Mapping[str, Any], out: Path, context: Context) -> None:
    """Write `preflight.json`: {"findings": [sentences]}.

    `inputs`: `imatrix.dat`, where the recipe has one, and `model.gguf`, where the base is one; `params`: `type`, the
    base's, and `config` for a base in Hugging Face layout; `ftypes`, label → the quant step's params; `computed`, where
    the imatrix is yet to be made, from a text; `strict`, with which any finding raises PreflightFailed, as one does
    that a build must fail by.
    """
    from quantmill.imatrix import read

    if "model.gguf" in inputs:
        with gguf.read(inputs["model.gguf"].path) as file:
            facts = {key: entry.value for key, entry in file.metadata.items() if not key.startswith("tokenizer.")}
            tensors = [(info.name, info.shape, info.type) for info in file.tensors.values()]
        check_base(tensors, params["type"])
    else:
        from quantmill.model.describe import describe

        entries, tensors = describe(params["config"], params["type"])
        facts = {entry.key: entry.value for entry in entries}
    imatrix = read(inputs["imatrix.dat"].path) if "imatrix.dat" in inputs else None
    found = findings(
        tensors, mixes(tensors, facts, params["ftypes"]), imatrix, imatrix is not None or bool(params.get("computed"))
    )
    if failed := [finding for finding in found if finding.fatal or params.get("strict")]:
        raise PreflightFailed(failed)
    text = json.dumps({"findings": [finding.text for finding in found]}, indent=1, ensure_ascii=False)
    (out / "preflight.json").write_text(text + "\n", encoding="utf-8")
    context.progress(1, 1)
