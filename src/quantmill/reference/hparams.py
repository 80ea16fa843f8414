"""The few facts of a model that decide which type a tensor gets, read from GGUF metadata.

Source of the rules: llama-model.cpp and llama-hparams.cpp of llama.cpp.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quantmill.errors import QuantmillError, UsageError

MAX_LAYERS = 512  # LLAMA_MAX_LAYERS
PROJECTOR = "clip"  # the architecture of a vision or audio projector, of which llama-quantize reads no facts


class ModelFacts(QuantmillError):
    """The metadata does not say what the choice of types needs."""


class NoLanguageModel(UsageError, ModelFacts):
    """The metadata are those of another file than a whole language model's."""


@dataclass(frozen=True)
class Hparams:
    """Facts about the model.

    `n_expert` is 0 for a dense model. `gqa` is query heads per key/value head in the first layer (0 without key/value
    heads, None of a projector). `attention_layers` counts the layers that have key/value heads, as llama-quantize
    checks it against the tensors; None when the metadata does not say. `is_grouped`: the first layer's query heads
    share key/value heads. `n_nextn` of the layers are for multi-token prediction.
    """

    arch: str
    n_layer: int
    n_expert: int = 0
    gqa: int | None = 1
    attention_layers: int | None = None
    is_grouped: bool = False
    n_nextn: int = 0

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> "Hparams":
        """From decoded GGUF values by key; ModelFacts when a key is missing or of the wrong kind."""
        arch = metadata.get("general.architecture")
        if not isinstance(arch, str):
            raise _lacks("general.architecture")
        if arch == PROJECTOR:
            return cls(arch, 0, gqa=None)
        layers = _count(metadata, f"{arch}.block_count")
        if layers is None:
            raise _lacks(f"{arch}.block_count")
        if layers > MAX_LAYERS:
            raise ModelFacts(
                f"the GGUF key {arch}.block_count is {layers}; llama.cpp loads at most {MAX_LAYERS} layers"
            )
        experts = _count(metadata, f"{arch}.expert_count") or 0
        heads = _per_layer(metadata, f"{arch}.attention.head_count", layers)
        kv_heads = _per_layer(metadata, f"{arch}.attention.head_count_kv", layers) or heads
        attention_layers = None
        if kv_heads is not None:
            # An encoder-decoder has self-attention twice and cross-attention once a layer.
            attention_layers = sum(map(bool, kv_heads)) * (3 if arch in ("t5", "t5encoder") else 1)
        n_head, n_kv = (heads or [0])[0], (kv_heads or [0])[0]
        return cls(
            arch=arch,
            n_layer=layers,
            n_expert=experts,
            gqa=n_head // n_kv if n_kv else 0,
            attention_layers=attention_layers,
            is_grouped=n_head != n_kv,
            n_nextn=_count(metadata, f"{arch}.nextn_predict_layers") or 0,
        )


def _lacks(key: str) -> NoLanguageModel:
    return NoLanguageModel(
        f"its metadata have no {key}, which every language model has; give a whole model that llama.cpp's converter "
        "made"
    )


def _count(metadata: Mapping[str, Any], key: str) -> int | None:
    value = metadata.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ModelFacts(f"the GGUF key {key} is {_shown(value)}; a count was expected")
    return value


def _per_layer(metadata: Mapping[str, Any], key: str, layers: int) -> list[int] | None:
    """One count a layer, from a single value or an array of exactly `layers` values; None when the key is missing."""
    value = metadata.get(key)
    if value is None or isinstance(value, int):
        count = _count(metadata, key)
        return None if count is None else [count] * layers
    if not isinstance(value, list) or not all(type(v) is int and v >= 0 for v in value):
        raise ModelFacts(f"the GGUF key {key} is {_shown(value)}; a count, or a list of one a layer, was expected")
    if len(value) != layers:
        raise ModelFacts(f"the GGUF key {key} has {len(value)} values; the model has {layers} layers")
    return value


def _shown(value: object) -> str:
    """A value of any kind in a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "…"
