"""preflight: what the imatrix and the model's shape let foresee, before anything large is computed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quantmill import gguf
from quantmill.artifact import Artifact, Context
from quantmill.quality.errors import QualityError
from quantmill.quality.overlap import shared_passage
from quantmill.quant.findings import PreflightFailed, check_base, findings, mixes
from quantmill.reference.spans import of_generation


def run(inputs: Mapping[str, Artifact], params: Mapping[str, Any], out: Path, context: Context) -> None:
    """Write `preflight.json`: {"findings": [sentences]}.

    `inputs`: `imatrix.dat`, where the recipe has one, and `model.gguf`, where the base is one; `params`: `type`, the
    base's, and `config` for a base in Hugging Face layout; `ftypes`, label → the quant step's params; `computed`, where
    the imatrix is yet to be made, from a text; `strict`, with which any finding raises PreflightFailed, as one does
    that a build must fail by. An evaluation text, `texts/<name>`, that shares a passage with a calibration text,
    `seen/<name>`, raises QualityError, and one that no model can be measured on, by `least`, the tokens that each kind
    needs ({"texts/": n, "seen/": n}), a TextError; `names` are what errors call these inputs.
    """
    from quantmill.imatrix import read

    _check_texts(inputs, params.get("least", {}), params.get("names", {}))
    if "model.gguf" in inputs:
        with gguf.read(inputs["model.gguf"].path) as file:
            facts = {key: entry.value for key, entry in file.metadata.items() if not key.startswith("tokenizer.")}
            tensors = [(info.name, info.shape, info.type) for info in file.tensors.values()]
        check_base(tensors, params["type"])
    else:
        from quantmill.architectures.description import describe

        entries, tensors = describe(params["config"], params["type"])
        facts = {entry.key: entry.value for entry in entries}
    imatrix = read(inputs["imatrix.dat"].path) if "imatrix.dat" in inputs else None
    ftypes = dict(sorted(params["ftypes"].items()))  # not as a recipe lists them, which no key holds
    has_imatrix = imatrix is not None or bool(params.get("computed"))
    reference = of_generation(params.get("generation"))
    chosen = mixes(reference, tensors, facts, ftypes)
    found = findings(reference, tensors, chosen, imatrix, has_imatrix, ftypes)
    if failed := [finding for finding in found if finding.fatal or params.get("strict")]:
        raise PreflightFailed(failed)
    text = json.dumps({"findings": [finding.text for finding in found]}, indent=1, ensure_ascii=False)
    (out / "preflight.json").write_text(text + "\n", encoding="utf-8")
    context.progress(1, 1)


def _check_texts(inputs: Mapping[str, Artifact], least: Mapping[str, int], names: Mapping[str, str]) -> None:
    from quantmill.engine.chunks import check_length, read_text

    texts = {}
    for name, artifact in inputs.items():
        kind = name.partition("/")[0] + "/"
        if kind in least:
            texts[name] = read_text(artifact.path, names[name])
            check_length(texts[name], least[kind], names[name])
    for name in texts:
        for seen in texts if name.startswith("texts/") else ():
            if seen.startswith("seen/") and (shared := shared_passage(texts[name], texts[seen])) is not None:
                raise QualityError(
                    f"{names[name]}: shares {json.dumps(shared[:60], ensure_ascii=False)} with the calibration text "
                    f"{names[seen]}; measure with a text that the importance matrix has not seen"
                )
