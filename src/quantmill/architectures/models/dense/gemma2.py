"""Gemma 2: every second layer has a window, and scores and logits are capped."""

from collections.abc import Mapping
from typing import Any

from quantmill.architectures.architecture import Architecture, Facts, MetadataKey, ModelClass, TensorLine
from quantmill.architectures.errors import ModelError
from quantmill.architectures.models.pieces import (
    ATTN_NORM,
    ATTN_OUTPUT,
    FFN,
    ONLY,
    POST_ATTENTION_NORM,
    POST_FFN_NORM,
    QKV,
    TOP,
    one_added,
    positive,
    without,
)
from quantmill.architectures.operations import Add, Attend, Feed, Norm
from quantmill.gguf import ValueType

_CAPS = ("attn_logit_softcapping", "final_logit_softcapping")
_BASE = 10000  # llama.cpp's, of which a file says nothing


def _capped(facts: Facts) -> Mapping[str, Any]:
    positive(facts, *_CAPS)
    if facts["rope_theta"] != _BASE:
        raise ModelError(
            f"config.json's `rope_theta` is {facts['rope_theta']!r}; gemma2 in a GGUF file has {_BASE} and nothing else"
        )
    return {}


GEMMA2 = Architecture(
    "gemma2",
    one_added(TOP[:-1]),
    one_added(
        (
            ATTN_NORM,
            *QKV,
            ATTN_OUTPUT,
            POST_ATTENTION_NORM,
            TensorLine("ffn_norm.weight", "embd", "pre_feedforward_layernorm.weight"),
            *FFN,
            POST_FFN_NORM,
        )
    ),
    (
        ModelClass(
            "Gemma2ForCausalLM",
            {
                "rms_norm_eps": 1e-6,
                "rope_theta": 10000.0,
                "tie_word_embeddings": True,
                "num_key_value_heads": 4,
                "head_dim": 256,
                "max_position_embeddings": 8192,
                "sliding_window": 4096,
                "attn_logit_softcapping": 50.0,
                "final_logit_softcapping": 30.0,
            },
            scalings=(),
            only=without(ONLY, *_CAPS)
            | {
                "hidden_activation": ("gelu_pytorch_tanh", None),
                "attention_bias": (False, None),
                "use_bidirectional_attention": (False, None),
                "tie_word_embeddings": (True, None),
            },
            absent={"query_pre_attn_scalar": 256},
            windows="pattern",
            facts=_capped,
            vocabulary="sentencepiece",
            dropped=r"lm_head\.weight$",
        ),
    ),
    keys=(
        MetadataKey("attn_logit_softcapping", "attn_logit_softcapping", ValueType.FLOAT32),
        MetadataKey("final_logit_softcapping", "final_logit_softcapping", ValueType.FLOAT32),
        "attention.sliding_window",
    ),
    order=(
        *("context_length", "embedding_length", "block_count", "feed_forward_length"),
        *("attention.head_count", "attention.head_count_kv", "attention.layer_norm_rms_epsilon"),
        *("attention.key_length", "attention.value_length", "general.file_type"),
        *("attn_logit_softcapping", "final_logit_softcapping", "attention.sliding_window"),
    ),
    operations=(
        Norm("attn_norm"),
        Attend(capped=True),
        Norm("post_attention_norm", of="change"),
        Add(),
        Norm("ffn_norm"),
        Feed("gelu"),
        Norm("post_ffw_norm", of="change"),
        Add(),
    ),
    numbers={"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
    window_base=0.0,
    window_pattern=2,
    embedding_scale=True,
    wide_scale_layers=46,
)
