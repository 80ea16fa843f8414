"""Phi 3 and 4: queries, keys and values are one matrix, and so are gate and up."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from quantmill.architectures.architecture import Architecture, Facts, MetadataKey, ModelClass, TensorLine
from quantmill.architectures.conditions import Sizes, whole
from quantmill.architectures.errors import ModelError
from quantmill.architectures.models.pieces import (
    ATTN_NORM,
    ATTN_OUTPUT,
    COMMON,
    FFN,
    FFN_NORM,
    SILU,
    TOP,
    attended,
    check_whole_heads,
    without,
)
from quantmill.architectures.operations import Add, Attend, Feed, Norm
from quantmill.gguf import ValueType

_LONG, _SHORT = "long_factor", "short_factor"
_ORIGINAL = "original_max_position_embeddings"


def _rotary(facts: Facts) -> int:
    """Columns of a head that turn."""
    part = facts["partial_rotary_factor"]
    if not isinstance(part, int | float) or isinstance(part, bool) or not 0 < part <= 1:
        raise ModelError(f"config.json's `partial_rotary_factor` is {part!r}; a number of at most 1 would be right")
    return int(part * facts["hidden_size"]) // int(facts["num_attention_heads"])


def _long(facts: Facts) -> bool:
    return bool(facts["rope_scaling"])


def _stretched(facts: Facts) -> Mapping[str, Any]:
    """The original context, and of a model for a longer one what cosine and sine are multiplied by."""
    check_whole_heads(facts)
    scaling = facts["rope_scaling"] or {}
    original = scaling.get(_ORIGINAL, facts[_ORIGINAL])
    if not isinstance(original, int) or isinstance(original, bool) or original < 2:
        raise ModelError(f"config.json's `{_ORIGINAL}` is {original!r}; a whole number from 2 would be right")
    rotary = _rotary(facts)
    window = 0 if facts["sliding_window"] is None else facts["sliding_window"]
    found = {"head_dim": None, _ORIGINAL: original, "rotary": rotary, "attention_factor": None}
    found |= {"sliding_window": window}
    if not scaling:
        return found
    for key in (_LONG, _SHORT):
        _check_factors(key, scaling.get(key), rotary / 2)
    stretch = facts["max_position_embeddings"] / original
    usual = math.sqrt(1 + math.log(stretch) / math.log(original)) if stretch > 1 else 1.0
    for key, right in (("attention_factor", usual), ("short_mscale", None), ("long_mscale", None)):
        value = scaling.get(key)
        good = isinstance(value, int | float) and right is not None and abs(value - right) <= 1e-4 * right
        if value is not None and not good:
            raise ModelError(f"config.json's `rope_scaling.{key}` is {value!r}; phi3 in a GGUF file has {right!r}")
    return {**found, "attention_factor": usual}


def _check_factors(key: str, factors: Any, wanted: float) -> None:
    numbers = isinstance(factors, list) and all(
        isinstance(factor, int | float) and not isinstance(factor, bool) and 0 < factor < math.inf for factor in factors
    )
    if not numbers or len(factors) != wanted:
        raise ModelError(
            f"config.json's `rope_scaling.{key}` is no list of {wanted:g} numbers above 0, one for each pair of "
            "columns that turns"
        )


def _notes(facts: Facts) -> Iterator[str]:
    width = facts["sliding_window"]
    if isinstance(width, int) and 0 < width < facts["max_position_embeddings"]:
        yield (
            f"config.json's `sliding_window` is {width}; llama.cpp's phi3 has no windows, so that a text beyond "
            f"{width} tokens is read otherwise than by transformers"
        )


def _fused(sizes: Sizes) -> Sizes:
    q, kv, ff, rotary = (whole(sizes[name]) for name in ("q", "kv", "ff", "rotary"))
    return {"qkv": q + 2 * kv, "gate_up": 2 * ff, "turned": rotary // 2}


PHI3 = Architecture(
    "phi3",
    (
        *TOP,
        TensorLine("rope_factors_long.weight", "turned", asked=_long, optional=True),
        TensorLine("rope_factors_short.weight", "turned", asked=_long, optional=True),
    ),
    (
        ATTN_NORM,
        TensorLine("attn_qkv.weight", "embd qkv", "self_attn.qkv_proj.weight", spared=True),
        ATTN_OUTPUT,
        FFN_NORM,
        TensorLine("ffn_up.weight", "embd gate_up", "mlp.gate_up_proj.weight"),
        FFN[2],
    ),
    (
        ModelClass(
            "Phi3ForCausalLM",
            {
                **COMMON,
                "rms_norm_eps": 1e-5,
                "num_key_value_heads": None,
                "max_position_embeddings": 4096,
                _ORIGINAL: 4096,
                "partial_rotary_factor": 1.0,
                "sliding_window": None,
            },
            scalings=("longrope", "su"),
            only=without(SILU, "partial_rotary_factor"),
            facts=_stretched,
            notes=_notes,
            vocabulary="phi3",
        ),
    ),
    keys=(
        MetadataKey("rope.scaling.attn_factor", "attention_factor", ValueType.FLOAT32, first=True),
        MetadataKey("rope.scaling.original_context_length", _ORIGINAL),
        MetadataKey("rope.dimension_count", "rotary", size="rotary"),
        "attention.sliding_window",
    ),
    order=(
        *("rope.scaling.attn_factor", "context_length", "rope.scaling.original_context_length", "embedding_length"),
        *("feed_forward_length", "block_count", "attention.head_count", "attention.head_count_kv"),
        *("attention.layer_norm_rms_epsilon", "rope.dimension_count", "rope.freq_base", "general.file_type"),
        "attention.sliding_window",
    ),
    sizes=_fused,
    scaled=("attn_qkv",),
    operations=(*attended(Attend()), Norm("ffn_norm"), Feed(fused=True), Add()),
    whole_heads=True,
)
