"""preflight: what the imatrix and the model's shape let foresee, before anything large is computed."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from quantmill.artifact import Context
from quantmill.steps.quant import Params as QuantParams
from quantmill.steps.step import Inputs, Step

if TYPE_CHECKING:
    from quantmill.gguf.layout import TensorEntry
    from quantmill.quant.mix import Mix
    from quantmill.reference.reference import Reference


# Of inputs whose names begin so, what the texts are of, and who has seen them.
SEEN = {"seen": ("calibration", "importance matrix"), "searched": ("search", "search")}


class Params(TypedDict):
    """`type`: the base's; `config`: of a base in Hugging Face layout, `output`: its tied checkpoint has an output
    matrix; `ftypes`: the quant step's params by label; `computed`: the imatrix is yet to be made, from a text;
    `measured_by`: by whom, where that is not our own engine, and `evaluated_by`, who measures quality; `bench`: a GGUF
    base's files are run by our own kernels; `searched`: types are found by measuring; `llama_cpp`: the tag, of a GGUF
    base; `strict`: any finding fails; `least`: the tokens that each kind of text needs; `notes`: what the lock says of
    the vocabulary. No part of the key: `names`, what errors call the texts, and `generation`, which has a field of its
    own there."""

    type: str
    ftypes: Mapping[str, QuantParams]
    config: NotRequired[Mapping[str, Any] | None]
    output: NotRequired[bool]
    computed: NotRequired[bool]
    measured_by: NotRequired[str]
    evaluated_by: NotRequired[str]
    bench: NotRequired[bool]
    searched: NotRequired[bool]
    llama_cpp: NotRequired[str]
    strict: NotRequired[bool]
    least: NotRequired[Mapping[str, int]]
    notes: NotRequired[Sequence[str]]
    names: NotRequired[Mapping[str, str]]
    generation: NotRequired[int]


def run(inputs: Inputs, params: Params, out: Path, context: Context) -> None:
    """Write `preflight.json`: {"findings": [sentences]}, and `makeup.json`: what each file's weights really are.

    `inputs`: `imatrix.dat`, where the recipe has one, with the `report.json` of its measurement; `model.gguf`, where
    the base is one; texts, `texts/<name>` of the evaluation, `seen/<name>` of the calibration, `searched/<name>` of the
    search. Raises UsageError for a finding that a build must fail by, or any under `strict`; SharedPassage for texts
    that share a passage; ForwardError for one that is too short.
    """
    from quantmill import gguf
    from quantmill.architectures.configuration import notes
    from quantmill.engine.suitability import base_notes, check_computable, check_config_computable
    from quantmill.imatrix import read
    from quantmill.quant.findings import Finding, check_base, findings, mixes, preflight_failed
    from quantmill.reference.spans import of_generation

    _check_texts(inputs, params.get("least", {}), params.get("names", {}))
    reference, place = of_generation(params.get("generation")), "model.gguf"
    own = params.get("computed") and "measured_by" not in params
    kinds = {"calibration": own, "evaluation": "texts/" in params.get("least", {}) and "evaluated_by" not in params}
    kinds |= {"search": params.get("searched"), "bench": params.get("bench")}
    wanted = [kind for kind, asked in kinds.items() if asked]
    if "model.gguf" in inputs:
        with gguf.read(inputs["model.gguf"].path) as file:
            metadata = dict(file.metadata)
            tensors = file.tensor_entries()
        facts = gguf.model_facts(metadata.values())
        said = base_notes(place, params.get("llama_cpp", ""), metadata, tensors)
        again = any(asked.get("allow_requantize") for asked in params["ftypes"].values())
        check_base(tensors, facts.get("general.file_type"), params["type"], again)
        check_computable(place, metadata, tensors, wanted)
    else:
        from quantmill.architectures.description import describe

        config = params.get("config") or {}
        check_config_computable(config, wanted)
        entries, tensors = describe(config, params["type"], output=params.get("output", False), reference=reference)
        facts = {entry.key: entry.value for entry in entries}
        said = notes(config)
    imatrix = read(inputs["imatrix.dat"].path) if "imatrix.dat" in inputs else None
    ftypes = dict(sorted(params["ftypes"].items()))  # not as a recipe lists them, which no key holds
    has_imatrix = imatrix is not None or bool(params.get("computed"))
    chosen = mixes(reference, tensors, facts, ftypes)
    again = "report.json" in inputs  # what is known without the matrix was told before it was measured
    measured = json.loads(inputs["report.json"].path.read_bytes()) if again else {}
    found = [] if again else [Finding(note, ()) for note in (*params.get("notes", ()), *said)]
    found += findings(reference, tensors, chosen, imatrix, has_imatrix, ftypes, measured, shapes=not again)
    if failed := [finding for finding in found if finding.fatal or params.get("strict")]:
        raise preflight_failed(failed)
    text = json.dumps({"findings": [str(finding) for finding in found]}, indent=1, ensure_ascii=False)
    (out / "preflight.json").write_text(text + "\n", encoding="utf-8")
    (out / "makeup.json").write_text(_makeup(reference, tensors, chosen, ftypes), encoding="utf-8")
    context.progress(1, 1)


def _makeup(
    reference: "Reference",
    tensors: "Sequence[TensorEntry]",
    chosen: "Mapping[str, Mix]",
    ftypes: Mapping[str, QuantParams],
) -> str:
    from quantmill.quant.makeup import makeup

    found = {
        label: vars(makeup(tensors, reference.ftype(ftypes[label]["ftype"]), mix.types, mix.fallbacks))
        for label, mix in chosen.items()
    }
    return json.dumps(found, indent=1, sort_keys=True) + "\n"


def _check_texts(inputs: Inputs, least: Mapping[str, int], names: Mapping[str, str]) -> None:
    from quantmill.engine.chunks import check_length, read_text
    from quantmill.quality.errors import SharedPassage
    from quantmill.quality.overlap import shared_passage

    texts = {}
    for name, artifact in inputs.items():
        kind = name.partition("/")[0] + "/"
        if kind in least:
            texts[name] = read_text(artifact.path, names[name])
            check_length(texts[name], least[kind], names[name])
    for name in texts:
        for seen in texts if name.startswith("texts/") else ():
            of = SEEN.get(seen.partition("/")[0])
            if of and (shared := shared_passage(texts[name], texts[seen])) is not None:
                raise SharedPassage(
                    f"{names[name]}: shares {json.dumps(shared[:60], ensure_ascii=False)} with the {of[0]} text "
                    f"{names[seen]}; measure with a text that the {of[1]} has not seen"
                )


STEP = Step(
    name="preflight",
    version=5,
    doc="say what the imatrix and the model's shape let foresee",
    run=run,
    outputs=("preflight.json", "makeup.json"),
    prefixes=("", "coverage"),
    findings="preflight.json",
)
