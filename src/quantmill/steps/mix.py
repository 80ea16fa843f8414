"""mix: the types of a file of a size, of what rounding each of the base's tensors costs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from quantmill.artifact import Context
from quantmill.steps.step import Inputs, Step

if TYPE_CHECKING:
    from quantmill.mix_search.space import Target

MIX, FOUND = "mix.json", "search.json"  # what the quant step reads, and what is told of it


class Params(TypedDict):
    """`target`: what the file is to be at most: `bits` a weight, a `size` in bytes, `like` an ftype, or `vram`, a
    card's bytes, with `context` tokens. `types`: those that tensors may have. The other keys are quant's; `generation`
    has a field of its own in the key."""

    target: Mapping[str, Any]
    types: list[str]
    imatrix_name: str
    zero_as_one: NotRequired[bool]
    output_tensor_type: NotRequired[str]
    token_embedding_type: NotRequired[str]
    tensor_types: NotRequired[list[list[str]]]
    generation: NotRequired[int]


def run(inputs: Inputs, params: Params, out: Path, context: Context) -> None:
    """Write `mix.json`: the quant step's `ftype` and `tensor_types`, and the metadata's `note`; and `search.json`: what
    is told of the search. `inputs`: `model.gguf`, `imatrix.dat` and `sensitivity.json`."""
    from quantmill.mix_search.search import Measured, Sought, find_mix
    from quantmill.quant.makeup import makeup
    from quantmill.quant.overrides import overrides_of
    from quantmill.reference.spans import of_generation
    from quantmill.statistics import rounded

    base, reference = inputs["model.gguf"].path, of_generation(params.get("generation"))
    sought = Sought(
        base,
        inputs["imatrix.dat"].path,
        params["imatrix_name"],
        reference,
        params.get("zero_as_one", False),
        "the base",
    )
    measured = Measured.of(json.loads(inputs["sensitivity.json"].path.read_bytes()))
    target = target_of(base, params["target"])
    found = find_mix(sought, measured, target, params["types"], overrides_of(params))
    planned = found.planned
    _write(out / MIX, {"ftype": found.ftype, "tensor_types": found.patterns, "note": found.note})
    told = {
        "target": dict(params["target"]),
        "bytes": found.n_bytes,
        "predicted_kld": rounded(found.predicted),
        "ftype": found.ftype,
        "kind": found.kind,
        "stock": {"ftype": found.stock, "bytes": found.stock_bytes},
        "searched": {"chunks": measured.chunks, "n_ctx": measured.n_ctx},
        "makeup": vars(makeup(planned.tensors, None, planned.types, ())),
    }
    _write(out / FOUND, told)
    context.progress(1, 1)


def target_of(base: Path, asked: Mapping[str, Any]) -> "Target":
    """The step's `target` as the search takes it, of that base."""
    from quantmill import gguf
    from quantmill.choose.placement import room_on_card
    from quantmill.choose.shape import of_file
    from quantmill.mix_search.errors import NotSearchable
    from quantmill.mix_search.space import Target

    if "vram" not in asked:
        return Target(**asked)
    with gguf.read(base) as file:
        shape = of_file(file.metadata.values(), file.tensor_entries())
    if shape is None:
        raise NotSearchable("the base: it does not say how many layers and heads it has; ask for a size or bits")
    return Target(on_card=room_on_card(shape, **asked))


def _write(path: Path, data: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def mix_of(inputs: Inputs) -> Mapping[str, Any]:
    """What a step reads of the mix of its file; nothing of a stock ftype's."""
    found: Mapping[str, Any] = json.loads(inputs[MIX].path.read_bytes()) if MIX in inputs else {}
    return found


STEP = Step(
    name="mix",
    version=1,
    doc="choose the types of a file of a size by what was measured",
    run=run,
    outputs=(MIX, FOUND),
    bulky=True,
)
