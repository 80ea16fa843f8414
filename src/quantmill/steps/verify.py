"""verify: a finished file's structure, types, scales and digest, before anyone downloads it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quantmill import gguf
from quantmill.artifact import Artifact, Context
from quantmill.gguf.verifying import verify_files
from quantmill.quant.ftypes import ftype
from quantmill.quant.hparams import Hparams
from quantmill.quant.mix import plan_types
from quantmill.quant.params import overrides_of


def run(inputs: Mapping[str, Artifact], params: Mapping[str, Any], out: Path, context: Context) -> None:
    """`inputs`: `files/<name>` for one GGUF file or all its shards, and `base.gguf`, whose tensors they must have.
    `params` are the quant step's, or nothing for the base itself.

    Writes `verify.json`, the report, the same for the same bytes. Raises a GGUFError for the first thing that is wrong.
    """
    files = {name.partition("/")[2]: a for name, a in inputs.items() if name.startswith("files/")}
    report = verify_files(
        {name: artifact.path for name, artifact in files.items()},
        _types(inputs["base.gguf"].path, params),
        digests={name: artifact.sha256 for name, artifact in files.items()},
        progress=context.progress,
    )
    text = json.dumps(report.to_json(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    (out / "verify.json").write_text(text, encoding="utf-8")


def _types(base: Path, params: Mapping[str, Any]) -> dict[str, str]:
    """The type that each tensor is to have, from the base's header alone."""
    with gguf.read(base) as file:
        tensors = [(info.name, info.shape, info.type) for info in file.tensors.values()]
        if "ftype" not in params:
            return {name: type_.name for name, _, type_ in tensors}
        facts = {key: entry.value for key, entry in file.metadata.items() if not key.startswith("tokenizer.")}
    chosen = ftype(params["ftype"])
    mix = plan_types(chosen, Hparams.from_metadata(facts), tensors, "imatrix_name" in params, overrides_of(params))
    return {name: type_.name for name, type_ in mix.types.items()}
