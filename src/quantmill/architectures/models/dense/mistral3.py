"""Mistral 3: Mistral Small 3.1's text model, and Ministral 3, whose queries are scaled by their positions.

GGUF files of it may be mixtures.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from quantmill.architectures.architecture import Architecture, Facts, MetadataKey, ModelClass, TensorLine
from quantmill.architectures.conditions import dense, mixture
from quantmill.architectures.errors import ModelError
from quantmill.architectures.models.dense.llama import rope_factors
from quantmill.architectures.models.pieces import (
    ATTN_NORM,
    ATTN_OUTPUT,
    ATTN_OUTPUT_BIAS,
    COMMON,
    EXPERTS,
    FFN,
    FFN_BIAS,
    FFN_NORM,
    QKV,
    SILU,
    TOP,
    attended,
    in_dense,
    in_files,
    permuted,
    positive,
)
from quantmill.architectures.operations import Add, Attend, Experts, Feed, Norm
from quantmill.gguf import ValueType

_YARN = ("mscale", "mscale_all_dim", "llama_4_scaling_beta")


def _scaled(facts: Facts) -> Mapping[str, Any]:
    """Ministral 3 has YaRN with factors of its own, and no other model has those."""
    scaling = facts["rope_scaling"] or {}
    if facts.get("model_type") != "ministral3":
        for key in _YARN:
            if scaling.get(key) is not None:
                raise ModelError(f"config.json's rope scaling has `{key}` {scaling[key]!r}, which ministral3 alone has")
        return {"log_multiplier": None, "temperature": None}
    if scaling.get("type") != "yarn":
        raise ModelError("config.json's `rope_parameters` has no YaRN, without which no ministral3 can be converted")
    positive(scaling, "llama_4_scaling_beta", above="rope_parameters.")
    for key in _YARN[:2]:
        if scaling.get(key) != 1:
            raise ModelError(f"config.json's `rope_parameters.{key}` is {scaling.get(key)!r}; 1 can be converted")
    return {"log_multiplier": scaling["mscale_all_dim"], "temperature": scaling["llama_4_scaling_beta"]}


_TEXT = ModelClass(
    "Ministral3ForCausalLM",
    {
        **COMMON,
        "rms_norm_eps": 1e-5,
        "num_key_value_heads": 8,
        "max_position_embeddings": 262144,
        "head_dim": 128,
        "sliding_window": None,
    },
    ignored=("attention_bias", "mlp_bias"),
    scalings=("linear", "yarn", "llama3"),
    only=SILU,
    yarn={"mscale": (1, None), "mscale_all_dim": (1, None)},
    windows="always",
    facts=_scaled,
    vocabulary="llama",
)

MISTRAL3 = Architecture(
    "mistral3",
    (*TOP, TensorLine("rope_freqs.weight", "pairs", asked=rope_factors, optional=True)),
    (
        ATTN_NORM,
        *permuted(QKV),
        ATTN_OUTPUT,
        *in_files([ATTN_OUTPUT_BIAS], optional=True),
        FFN_NORM,
        *in_dense(FFN),
        *in_files(in_dense(FFN_BIAS), optional=True),
        *in_files(EXPERTS, where=mixture),
    ),
    (
        _TEXT,
        replace(
            _TEXT,
            name="Mistral3ForConditionalGeneration",
            defaults={**COMMON, "num_key_value_heads": 8, "max_position_embeddings": 131072, "head_dim": None},
            part="language_model.",
            others=("vision_tower.", "multi_modal_projector."),
        ),
    ),
    keys=(
        "vocab_size",
        "rope.dimension_count",
        MetadataKey("rope.scaling.yarn_log_multiplier", "log_multiplier", ValueType.FLOAT32),
        MetadataKey("attention.temperature_scale", "temperature", ValueType.FLOAT32),
    ),
    since=8560,
    experts="maybe",
    scaled=("ffn_",),
    operations=(
        *attended(Attend("norm", tempered=True)),
        Norm("ffn_norm"),
        Feed(where=dense),
        Experts(where=mixture),
        Add(),
    ),
    numbers={"attention.temperature_scale": 0.0, "rope.scaling.yarn_log_multiplier": 0.0},
)
