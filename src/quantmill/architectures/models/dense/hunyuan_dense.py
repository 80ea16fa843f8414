"""Tencent's dense Hunyuan: rotary positions of a larger base, and norms of queries and keys behind them."""

from collections.abc import Mapping
from typing import Any

from quantmill.architectures.architecture import Architecture, Facts, MetadataKey, ModelClass, TensorLine
from quantmill.architectures.errors import ModelError
from quantmill.architectures.models.pieces import (
    ATTN_NORM,
    ATTN_OUTPUT,
    COMMON,
    FED,
    FFN,
    FFN_NORM,
    QKV,
    SILU,
    TOP,
    attended,
    positive,
)
from quantmill.architectures.operations import Attend
from quantmill.gguf import ValueType

_CONTEXT = 1 << 18  # of a model whose rope is scaled, whatever config.json says
_CONTEXTS = (1 << 15, _CONTEXT)  # what the converter takes for it
_BASE = 10000.0


def _scaled(facts: Facts) -> Mapping[str, Any]:
    """The base of NTK's scaling by alpha, with the context that the converter takes for it."""
    scaling = facts["rope_scaling"]
    if scaling is None:
        return {}
    positive(scaling, "alpha", above="rope_scaling.")
    if facts["rope_theta"] != _BASE or facts["max_position_embeddings"] not in _CONTEXTS:
        raise ModelError(
            f"config.json's `rope_theta` {facts['rope_theta']!r} and `max_position_embeddings` "
            f"{facts['max_position_embeddings']!r} are no Hunyuan's with scaling by `alpha`; {_BASE:g} and "
            f"{_CONTEXTS[0]} or {_CONTEXTS[1]} can be converted"
        )
    dim = facts["head_dim"]
    if dim <= 2:
        raise ModelError(f"config.json's `head_dim` is {dim}; more than 2 would be right for scaling by `alpha`")
    base = _BASE * scaling["alpha"] ** (dim / (dim - 2))
    return {"rope_theta": base, "max_position_embeddings": _CONTEXT}


def _if_scaled(value: Any) -> Any:
    return lambda facts: value if facts["rope_scaling"] else None


HUNYUAN_DENSE = Architecture(
    "hunyuan-dense",
    TOP,
    (
        ATTN_NORM,
        *QKV,
        TensorLine("attn_k_norm.weight", "head", "self_attn.key_layernorm.weight"),
        TensorLine("attn_q_norm.weight", "head", "self_attn.query_layernorm.weight"),
        ATTN_OUTPUT,
        FFN_NORM,
        *FFN,
    ),
    (
        ModelClass(
            "HunYuanDenseV1ForCausalLM",
            {
                **COMMON,
                "rms_norm_eps": 1e-5,
                "num_key_value_heads": None,
                "max_position_embeddings": 2048,
                "head_dim": None,
            },
            scalings=("dynamic",),
            only=SILU | {"attention_bias": (False, None)},
            facts=_scaled,
            vocabulary="hunyuan",
            is_tied_alone=True,
        ),
    ),
    keys=(
        MetadataKey("rope.scaling.type", _if_scaled("none"), ValueType.STRING, behind=True),
        MetadataKey("rope.scaling.factor", _if_scaled(1.0), ValueType.FLOAT32, behind=True),
        MetadataKey("rope.scaling.original_context_length", _if_scaled(_CONTEXT), behind=True),
    ),
    since=6122,
    operations=(*attended(Attend(qk_norm=True, normed="turned")), *FED),
)
