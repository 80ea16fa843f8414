"""GGUF files that are no language model: what they call themselves, and what is to be done with each."""

from collections.abc import Mapping
from typing import Any

from quantmill.errors import way
from quantmill.gguf.errors import GGUFUsageError

_BY_TYPE = {
    "mmproj": "a vision or audio projector (mmproj); llama.cpp takes it as it is, beside a model (--mmproj)",
    "adapter": "a LoRA adapter; llama.cpp takes it as it is, beside a model (--lora)",
    "imatrix": "an importance matrix; give it as one{} and name a model here",
}
_BY_ARCHITECTURE = {
    "clip": _BY_TYPE["mmproj"],
    "controlvector": "a control vector; llama.cpp takes it as it is, beside a model (--control-vector)",
}


def check_kind(place: str, facts: Mapping[str, Any], *, projectors: bool = False) -> None:
    """GGUFUsageError for a file whose metadata `facts` say that it is no model; what says nothing is taken for one.
    `projectors`: they pass."""
    kind, name = facts.get("general.type"), facts.get("general.architecture")
    found = _BY_TYPE.get(str(kind)) or _BY_ARCHITECTURE.get(str(name))
    if found and not (projectors and found == _BY_TYPE["mmproj"]):
        by = way("`[imatrix] file`", "--imatrix")
        found = found.format(f" ({by})" if by else "")
        raise GGUFUsageError(f"{place}: not a model but {found}")
