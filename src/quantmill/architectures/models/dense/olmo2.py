"""OLMo 2: norms of what attention and feed-forward part make, of all queries and of all keys together.

A file of OLMo 3 is of the same architecture, with windows.
"""

from collections.abc import Mapping
from typing import Any

from quantmill.architectures.architecture import Architecture, Facts, ModelClass, TensorLine
from quantmill.architectures.models.pieces import (
    ATTN_OUTPUT,
    COMMON,
    FFN,
    OUTPUT,
    POST_ATTENTION_NORM,
    POST_FFN_NORM,
    QKV,
    SILU,
    TOP,
    changed,
    check_whole_heads,
)
from quantmill.architectures.operations import Add, Attend, Feed, Norm


def _whole(facts: Facts) -> Mapping[str, Any]:
    check_whole_heads(facts)
    return {}


OLMO2 = Architecture(
    "olmo2",
    (*TOP[:-1], *changed([OUTPUT], optional=False)),
    (
        *QKV,
        TensorLine("attn_q_norm.weight", "q", "self_attn.q_norm.weight"),
        TensorLine("attn_k_norm.weight", "kv", "self_attn.k_norm.weight"),
        ATTN_OUTPUT,
        POST_ATTENTION_NORM,
        *FFN,
        POST_FFN_NORM,
    ),
    (
        ModelClass(
            "Olmo2ForCausalLM",
            {**COMMON, "rms_norm_eps": 1e-5, "num_key_value_heads": None, "max_position_embeddings": 2048},
            ignored=("sliding_window", "layer_types"),
            only=SILU | {"attention_bias": (False, None)},
            facts=_whole,
        ),
    ),
    operations=(
        Attend(qk_norm=True, normed="whole", of="states"),
        Norm("post_attention_norm", of="change"),
        Add(),
        Feed(of="states"),
        Norm("post_ffw_norm", of="change"),
        Add(),
    ),
    whole_heads=True,
    window_pattern=4,
    window_base=0,
    unscaled_windows=True,
    may_lack_windows=True,
)
