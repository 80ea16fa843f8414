"""verify: a finished file's structure, types, scales and digest, before anyone downloads it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from quantmill.artifact import Context
from quantmill.steps.mix import mix_of
from quantmill.steps.step import STREAM_MEMORY, Cost, Estimates, Inputs, Step, Task

RIGHT = "give them another type, or see to their importance (zero_as_one in [imatrix], or more text)"


class Params(TypedDict, total=False):
    """The quant step's, or nothing for the base itself; `gates`: what quality.gates.check asks of the file; `strict`:
    any finding fails; `spoiled`: tensors that lost all that they held are looked for. `generation` has a field of its
    own in the key."""

    ftype: str
    imatrix_name: str
    output_tensor_type: str
    token_embedding_type: str
    tensor_types: list[list[str]]
    pure: bool
    zero_as_one: bool
    allow_requantize: bool
    gates: Mapping[str, Any]
    strict: bool
    spoiled: bool
    generation: int


def run(inputs: Inputs, params: Params, out: Path, context: Context) -> None:
    """`inputs`: `files/<name>` for one GGUF file or all its shards, and `base.gguf`, whose tensors they must have;
    `quality.json`, where it was measured; `mix.json`, where its types were searched.

    Writes `verify.json`, the report with `quality` in it, the same for the same bytes; `findings` where tensors lost
    all that they held. Raises a GGUFError for the first thing that is wrong, a QualityError for a file that is not good
    enough.
    """
    from quantmill.architectures.loading import check_loadable
    from quantmill.gguf.verification import headers, verify_files
    from quantmill.quality import gates
    from quantmill.quality.errors import QualityError
    from quantmill.reference.spans import of_generation

    files = {name.partition("/")[2]: a for name, a in inputs.items() if name.startswith("files/")}
    gated = params.get("gates", {})
    types, fallbacks = _types(inputs["base.gguf"].path, {**params, **mix_of(inputs)})
    quality = json.loads(inputs["quality.json"].path.read_bytes()) if "quality.json" in inputs else None
    gates.check(min(files, default=""), gated, quality, fallbacks)
    paths = {name: artifact.path for name, artifact in files.items()}
    report = verify_files(
        paths,
        types,
        digests={name: artifact.sha256 for name, artifact in files.items()},
        known=of_generation(params.get("generation")).known_tokenizers,
        progress=context.progress,
    )
    check_loadable(min(files), *headers(paths.values()))
    said = _findings(inputs["base.gguf"].path, files) if params.get("spoiled") else []
    if said and params.get("strict"):
        raise QualityError(f"{min(files)}: {said[0]}; {RIGHT}, or take `strict` out of the recipe")
    found = report.to_json() | ({"quality": quality} if quality else {})
    found |= {"findings": [f"{text}; {RIGHT}" for text in said]} if said else {}
    text = json.dumps(found, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    (out / "verify.json").write_text(text, encoding="utf-8")


def _findings(base: Path, files: Inputs) -> list[str]:
    """The tensors that lost all that they held, in a sentence."""
    from quantmill.quality.tensor_errors import spoiled
    from quantmill.quant.unweighed import listed

    found = spoiled(base, [artifact.path for artifact in files.values()])
    if not found:
        return []
    first, experts = next(iter(found.items()))
    place = f"{listed(experts)} of {first}" if experts else first
    more = f" and of {len(found) - 1} more tensors" if len(found) > 1 else ""
    return [f"the weights of {place}{more} lost as much as zeros in their place would have"]


def _types(base: Path, params: Mapping[str, Any]) -> tuple[dict[str, str], list[str]]:
    """The type that each tensor is to have, from the base's header alone, and those that could not have the ftype's."""
    from quantmill import gguf
    from quantmill.quant.mix import plan_types
    from quantmill.quant.overrides import overrides_of
    from quantmill.reference.hparams import Hparams
    from quantmill.reference.spans import of_generation

    with gguf.read(base) as file:
        tensors = file.tensor_entries()
        if "ftype" not in params:
            return {name: type_.name for name, _, type_ in tensors}, []
        facts = gguf.model_facts(file.metadata.values())
    reference, guided = of_generation(params.get("generation")), "imatrix_name" in params
    ftype, hparams = reference.ftype(params["ftype"]), Hparams.from_metadata(facts)
    mix = plan_types(reference, ftype, hparams, tensors, guided, overrides_of(params))
    return {name: type_.name for name, type_ in mix.types.items()}, [found.tensor for found in mix.fallbacks]


def cost(task: Task, estimates: Estimates) -> Cost:
    """One pass of the file."""
    return Cost(estimates.pass_seconds(1, estimates.file_bytes(task.label)))


STEP = Step(
    name="verify",
    version=1,
    doc="check a file's structure, types, scales and digest",
    run=run,
    judges="files/",
    outputs=("verify.json",),
    findings="verify.json",
    memory=STREAM_MEMORY,
    bulky=True,
    cost=cost,
)
