"""IBM's Granite, mixtures: a llama's of which embeddings, attention, residuals and logits are scaled.

GGUF files of it may be dense, or have experts that all tokens take.
"""

from collections.abc import Mapping
from typing import Any

from quantmill.architectures.architecture import NEEDED, Architecture, Facts, MetadataKey, ModelClass, TensorLine
from quantmill.architectures.conditions import dense, mixture, shared
from quantmill.architectures.models.pieces import (
    ATTN_NORM,
    ATTN_OUTPUT,
    ATTN_OUTPUT_BIAS,
    COMMON,
    EXPERTS_ALONE,
    FFN,
    FFN_BIAS,
    FFN_NORM,
    QKV,
    QKV_BIAS,
    SHARED,
    SILU,
    TOP,
    asked,
    changed,
    check_whole_heads,
    in_dense,
    in_files,
    permuted,
    positive,
    without,
)
from quantmill.architectures.operations import Add, Attend, Experts, Feed, Norm
from quantmill.gguf import ValueType

_SCALES = ("attention_multiplier", "embedding_multiplier", "residual_multiplier", "logits_scaling")
_INPUT, _OUTPUT = "block_sparse_moe.input_linear.weight", "block_sparse_moe.output_linear.weight"


def _scaled(facts: Facts) -> Mapping[str, Any]:
    """A file has no key of a head's width, which follows from the others."""
    check_whole_heads(facts)
    positive(facts, *_SCALES)
    return {"head_dim": None}


def _no_shared(facts: Facts) -> None:
    """What a file may say, and no checkpoint of the class does."""


GRANITEMOE = Architecture(
    "granitemoe",
    (*TOP, TensorLine("rope_freqs.weight", "pairs", optional=True)),
    (
        ATTN_NORM,
        *permuted(QKV),
        *asked(permuted(QKV_BIAS), "attention_bias", optional=True),
        ATTN_OUTPUT,
        *asked([ATTN_OUTPUT_BIAS], "attention_bias", optional=True),
        FFN_NORM,
        *in_files(in_dense(FFN)),
        *in_files(in_dense(FFN_BIAS), optional=True),
        *changed(
            (
                TensorLine("ffn_gate_inp.weight", "embd experts", "block_sparse_moe.router.layer.weight"),
                TensorLine("ffn_gate_exps.weight", "embd eff experts", _INPUT, change="first half"),
                TensorLine("ffn_up_exps.weight", "embd eff experts", _INPUT, change="second half"),
                TensorLine("ffn_down_exps.weight", "eff embd experts", _OUTPUT),
            ),
            where=mixture,
        ),
        *in_files(SHARED, where=shared),
    ),
    (
        ModelClass(
            "GraniteMoeForCausalLM",
            {
                **COMMON,
                "num_key_value_heads": None,
                "max_position_embeddings": 2048,
                "num_experts": 8,
                "num_experts_per_tok": 2,
                **dict.fromkeys(_SCALES, 1.0),
            },
            spellings=EXPERTS_ALONE,
            mixture=True,
            only=without(SILU, *_SCALES) | {"position_embedding_type": ("rope", None)},
            facts=_scaled,
            vocabulary="llama",
        ),
    ),
    keys=(
        "vocab_size",
        "rope.dimension_count",
        MetadataKey("expert_shared_feed_forward_length", _no_shared, size="sff"),
        MetadataKey("attention.scale", "attention_multiplier", ValueType.FLOAT32),
        MetadataKey("embedding_scale", "embedding_multiplier", ValueType.FLOAT32),
        MetadataKey("residual_scale", "residual_multiplier", ValueType.FLOAT32),
        MetadataKey("logit_scale", "logits_scaling", ValueType.FLOAT32),
    ),
    needed=(*NEEDED, "expert_count", "expert_used_count", "logit_scale"),
    since=11312,
    operations=(
        Norm("attn_norm"),
        Attend("norm"),
        Add(scaled=True),
        Norm("ffn_norm"),
        Feed(where=dense),
        Experts(where=mixture),
        Add(scaled=True),
    ),
    numbers={"attention.scale": 0.0, "embedding_scale": 0.0, "residual_scale": 0.0, "logit_scale": 0.0},
    logits="over",
    experts="maybe",
    whole_heads=True,
)
