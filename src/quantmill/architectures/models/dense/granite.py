"""IBM's Granite: a llama whose embeddings, attention, residuals and logits are scaled by factors of their own.

GGUF files of it may be mixtures.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from quantmill.architectures.architecture import NEEDED, Architecture, Facts, ModelClass, TensorLine
from quantmill.architectures.conditions import dense, mixture, shared
from quantmill.architectures.models.hybrids.granite4 import (
    BASE_KEYS,
    CLASS,
    DENSE_FFN,
    HYBRID_KEYS,
    SCALE_KEYS,
    SCALES,
    turned,
    without_mamba,
)
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
    QKV_BIAS,
    SHARED,
    SILU,
    TOP,
    asked,
    check_whole_heads,
    in_dense,
    in_files,
    permuted,
    positive,
    without,
)
from quantmill.architectures.operations import Add, Attend, Experts, Feed, Norm


def _scaled(facts: Facts) -> Mapping[str, Any]:
    """A file has no key of a head's width, which follows from the others."""
    check_whole_heads(facts)
    positive(facts, *SCALES)
    return {"head_dim": None}


GRANITE = Architecture(
    "granite",
    (*TOP, TensorLine("rope_freqs.weight", "pairs", optional=True)),
    (
        ATTN_NORM,
        *permuted(QKV),
        *asked(permuted(QKV_BIAS), "attention_bias", optional=True),
        ATTN_OUTPUT,
        *asked([ATTN_OUTPUT_BIAS], "attention_bias", optional=True),
        FFN_NORM,
        *in_dense(FFN),
        *asked(in_dense(FFN_BIAS), "mlp_bias", optional=True),
        *in_files(EXPERTS, where=mixture),
        *in_files(SHARED, where=shared),
    ),
    (
        ModelClass(
            "GraniteForCausalLM",
            {**COMMON, "num_key_value_heads": None, "max_position_embeddings": 2048, **dict.fromkeys(SCALES, 1.0)},
            only=without(SILU, *SCALES),
            facts=_scaled,
            vocabulary="llama",
        ),
        replace(CLASS, when=without_mamba, tensors=DENSE_FFN),
    ),
    keys=(*BASE_KEYS, "vocab_size", "rope.dimension_count", *SCALE_KEYS, *HYBRID_KEYS),
    needed=(*NEEDED, "logit_scale"),
    operations=(
        Norm("attn_norm"),
        Attend("norm", turns=turned),
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
