"""Cohere's Command R7B and its kin: every fourth layer sees everything, without positions."""

from collections.abc import Mapping
from typing import Any

from quantmill.architectures.architecture import NEEDED, Architecture, Facts, MetadataKey, ModelClass
from quantmill.architectures.models.pieces import (
    ATTN_NORM,
    ATTN_OUTPUT,
    FFN,
    QKV,
    SILU,
    TOP,
    check_whole_heads,
    positive,
    without,
)
from quantmill.architectures.operations import Add, Attend, Feed, Norm
from quantmill.gguf import ValueType


def _scaled(facts: Facts) -> Mapping[str, Any]:
    check_whole_heads(facts)
    positive(facts, "logit_scale")
    return {"head_dim": facts["hidden_size"] // facts["num_attention_heads"]}


COHERE2 = Architecture(
    "cohere2",
    TOP[:-1],
    (ATTN_NORM, *QKV, ATTN_OUTPUT, *FFN),
    (
        ModelClass(
            "Cohere2ForCausalLM",
            {
                "layer_norm_eps": 1e-5,
                "rope_theta": 10000.0,
                "tie_word_embeddings": True,
                "num_key_value_heads": None,
                "max_position_embeddings": 8192,
                "sliding_window": 4096,
                "logit_scale": 0.0625,
            },
            ignored=("rms_norm_eps",),
            scalings=(),
            only=without(SILU, "logit_scale")
            | {"attention_bias": (False, None), "rotary_pct": (1, None), "tie_word_embeddings": (True, None)},
            windows="pattern",
            facts=_scaled,
        ),
    ),
    keys=(
        MetadataKey("logit_scale", "logit_scale", ValueType.FLOAT32),
        "attention.sliding_window",
        "vocab_size",
        "rope.dimension_count",
        MetadataKey("rope.scaling.type", lambda facts: "none", ValueType.STRING, behind=True),
    ),
    needed=(*NEEDED[:-1], "attention.layer_norm_epsilon", "logit_scale", "attention.sliding_window"),
    scaled=("ffn_",),
    operations=(
        Norm("attn_norm", kind="layer"),
        Attend("norm", turns="windowed"),
        Add(),
        Feed(),
        Add(),
    ),
    eps="attention.layer_norm_epsilon",
    norm="layer",
    numbers={"logit_scale": 0.0},
    logits="times",
    window_base=0.0,
    window_pattern=4,
    whole_heads=True,
)
