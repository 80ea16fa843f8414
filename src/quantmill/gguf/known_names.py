"""Which tensors an architecture may have, as the field's own package `gguf` lists them: far more than are made here.

Beside it, what is to be said of a vocabulary's names.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from quantmill.gguf.errors import shown
from quantmill.gguf.reader import read
from quantmill.gguf.shard_set import shards_of
from quantmill.gguf.token_facts import Known, TokenFacts

_ARCHITECTURE, _TYPE = "general.architecture", "general.type"
_MODEL = "model"  # the type of a file that states none
_NAMED = 3  # tensors that a note names
# What llama.cpp b11312 takes beyond the package 0.19, by how tensors' names begin: of some, all those of the layers
# that predict more tokens; a reranker's classes; a joined stack of experts.
_LATER = {
    **dict.fromkeys(("qwen3next", "qwen35", "qwen35moe", "exaone4", "step35"), ("NEXTN_",)),
    **dict.fromkeys(("qwen3", "qwen3vl"), ("CLS_OUT",)),
    "cohere2moe": ("FFN_GATE_UP_EXP",),
    "deepseek2": ("NEXTN_", "FFN_GATE_UP_EXP"),
    "granite": ("ROPE_FREQS", "FFN_GATE", "FFN_DOWN", "FFN_UP"),  # as a mixture
    "granitehybrid": ("ROPE_FREQS",),
    "granitemoe": ("ROPE_FREQS", "FFN_GATE", "FFN_DOWN", "FFN_UP"),  # as no mixture
    "mimo2": ("NEXTN_", "LAYER_OUT_NORM"),
    "nemotron_h_moe": ("NEXTN_", "ATTN_POST_NORM"),
}
# What llama.cpp b11312 has queries, keys and values as three matrices of alone; of all others they may be joined.
_APART = frozenset({"bitnet", "deepseek2", "glm-dsa", "mistral4", "plm"})


def unlisted(architecture: str, names: Iterable[str]) -> list[str]:
    """Those of a model's tensors that the package lists for no model of that architecture; none where it is unknown.

    The package has a name's beginning alone: what follows it, such as `.weight`, may be any one word.
    """
    from gguf import MODEL_ARCH_NAMES, MODEL_TENSORS, TENSOR_NAMES  # late: it takes a tenth of a second

    known = next((number for number, name in MODEL_ARCH_NAMES.items() if name == architecture), None)
    if known is None:
        return []
    later = _LATER.get(architecture, ())
    if any(tensor.name == "ATTN_Q" for tensor in MODEL_TENSORS[known]) and architecture not in _APART:
        later = (*later, "ATTN_QKV")
    tensors = [*MODEL_TENSORS[known], *(tensor for tensor in TENSOR_NAMES if tensor.name.startswith(later))]
    # A name is the package's pattern, `blk.{bid}.attn_q`, with a number in each pair of braces.
    patterns = {re.sub(r"\\{\w+\\}", r"\\d+", re.escape(TENSOR_NAMES[tensor])) for tensor in tensors}
    listed = re.compile(rf"(?:{'|'.join(sorted(patterns))})(?:\.\w+)?")
    return [name for name in names if not listed.fullmatch(name)]


def vocabulary_notes(path: Path, known: Known) -> list[str]:
    """What is odd of the vocabulary of a file that llama.cpp loads, and which names in it are not `known`."""
    with read(shards_of(path)[0]) as file:
        tokens = TokenFacts(file.metadata)
        unknown = tokens.unknown(known)
        found = [*([f"{unknown}; a later one may"] if unknown else []), *tokens.doubted()]
    return [f"note: {path.name}: {text}" for text in found]


def note(path: Path) -> str | None:
    """What is to be said of the tensors' names of a whole file, or of all the shards of one; None where all are listed.

    Said of models alone: an adapter's or an importance matrix's names are made from a model's by other rules.
    """
    from importlib.metadata import version

    facts: dict[str, Any] = {_ARCHITECTURE: "", _TYPE: _MODEL}
    names: list[str] = []
    for place in shards_of(path):
        with read(place) as file:
            facts |= {key: file.metadata[key].value for key in facts if key in file.metadata}
            names += file.tensors
    odd = unlisted(facts[_ARCHITECTURE], names) if facts[_TYPE] == _MODEL else []
    if not odd:
        return None
    more = f" and {len(odd) - _NAMED} more" if len(odd) > _NAMED else ""
    listed = ", ".join(map(shown, odd[:_NAMED])) + more
    return (
        f"note: {path.name}: the gguf package {version('gguf')} lists no {listed} for {shown(facts[_ARCHITECTURE])}; "
        "llama.cpp may refuse the file"
    )
