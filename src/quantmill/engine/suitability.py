"""What can be done with a base, before it is begun: said of its metadata and its tensors' names and shapes."""

from collections.abc import Mapping, Sequence
from typing import Any

from quantmill.architectures.errors import ForwardError
from quantmill.architectures.hyperparameters import hyper
from quantmill.architectures.known import architecture
from quantmill.architectures.loading import check_loadable
from quantmill.architectures.tensor_check import check
from quantmill.errors import UsageError
from quantmill.gguf import KV, kv, model_facts
from quantmill.gguf.errors import shown
from quantmill.gguf.kinds import check_kind
from quantmill.gguf.known_names import unlisted
from quantmill.gguf.layout import TensorEntry
from quantmill.gguf.shards import COUNT
from quantmill.reference.known_models import unknown

_ARCHITECTURE = "general.architecture"
# What a recipe may have computed of its base, by the table's name, and what helps where that cannot be.
WAYS = {
    "calibration": "give a ready matrix (`[imatrix] file`) in the place of [calibration], or let llama.cpp measure",
    "evaluation": "leave out [evaluation] and its gates",
    "search": "leave out [[quants.target]]",
    "bench": "leave out [bench], or let llama.cpp measure (`runtime`)",
}


def base_notes(place: str, tag: str, metadata: Mapping[str, KV], tensors: Sequence[TensorEntry]) -> list[str]:
    """What is worth knowing of a GGUF base at a llama.cpp tag. Raises GGUFUsageError for what is no model,
    NotLoadable for what llama.cpp does not load."""
    facts = model_facts(metadata.values())
    check_kind(place, facts)
    name = str(facts.get(_ARCHITECTURE))
    if f"{name}.block_count" not in facts:
        raise UsageError(
            f"{place}: its metadata have no {shown(name)[1:-1]}.block_count, which every language model has; give a "
            "whole model that llama.cpp's converter made"
        )
    if isinstance(count := facts.get(COUNT), int) and count > 1:
        raise UsageError(f"{place}: one shard of {count}, and a base is one file; join them with `quantmill merge`")
    check_loadable(place, metadata, tensors)
    said = []
    if stranger := unknown(tag, name):
        said.append(stranger)
    if odd := unlisted(name, (tensor.name for tensor in tensors)):
        more = f" and {len(odd) - 3} more" if len(odd) > 3 else ""
        listed = ", ".join(map(shown, odd[:3])) + more
        said.append(f"the gguf package lists no {listed} for {shown(name)}; llama.cpp may refuse the files")
    return said


def check_config_computable(config: Mapping[str, Any], wanted: Sequence[str]) -> None:
    """`check_computable` of a base that our own converter makes of that config.json."""
    known = architecture(config)
    if not known.is_computed:
        check_computable("config.json", {_ARCHITECTURE: kv(_ARCHITECTURE, known.name)}, (), wanted)


def check_computable(
    place: str, metadata: Mapping[str, KV], tensors: Sequence[TensorEntry], wanted: Sequence[str]
) -> None:
    """UsageError when the tables `wanted` of a recipe, of those in WAYS, ask for what cannot be computed of a base."""
    if not wanted:
        return
    if problem := incomputable(place, metadata, tensors):
        asked = " and ".join(f"[{name}]" for name in wanted)
        ways = ", and ".join(WAYS[name] for name in wanted)
        raise UsageError(f"{problem}, and {asked} would; {ways}")


def incomputable(place: str, metadata: Mapping[str, KV], tensors: Sequence[TensorEntry]) -> str:
    """Why our engine does not compute a base; empty where it does."""
    found = {tensor.name: (tensor.shape, tensor.type) for tensor in tensors}
    embeddings = found.get("token_embd.weight", ((), None))[0]
    try:
        check(place, hyper(place, metadata, embeddings[1] if len(embeddings) == 2 else 0), found)
    except ForwardError as error:
        return str(error)
    return ""
