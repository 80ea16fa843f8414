"""Baidu's ERNIE 4.5, mixtures: dense layers before them, and experts that all tokens take."""

from collections.abc import Mapping
from typing import Any

from quantmill.architectures.architecture import NEEDED, Architecture, Facts, MetadataKey, ModelClass, TensorLine
from quantmill.architectures.conditions import Sizes, behind, leading
from quantmill.architectures.errors import ModelError
from quantmill.architectures.models.pieces import (
    ATTN_NORM,
    ATTN_OUTPUT,
    EXPERTS,
    FFN,
    FFN_NORM,
    QKV,
    SHARED,
    SILU,
    TOP,
    attended,
    changed,
    renamed,
)
from quantmill.architectures.operations import Add, Attend, Experts, Feed, Norm


def _one(sizes: Sizes) -> Sizes:
    return {"one": 1}


def _shared(facts: Facts) -> int | None:
    """What the converter takes for the width of the experts that all tokens take, and llama.cpp with it."""
    count = facts["moe_num_shared_experts"]
    return facts["intermediate_size"] // facts["num_key_value_heads"] if count else None


def _checked(facts: Facts) -> Mapping[str, Any]:
    last, layers = facts.get("moe_layer_end_index", -1), facts["num_hidden_layers"]
    if last not in (-1, None) and last != layers - 1:
        raise ModelError(f"config.json's `moe_layer_end_index` is {last!r}; the last of {layers} layers would be right")
    count, width = facts["moe_num_shared_experts"], facts["moe_intermediate_size"]
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise ModelError(f"config.json's `moe_num_shared_experts` is {count!r}; a whole number would be right")
    if count and count * width != _shared(facts):
        raise ModelError(
            f"config.json has {count} shared experts of {width} columns; llama.cpp's ernie4_5-moe takes them for "
            f"{_shared(facts)} (`intermediate_size` over `num_key_value_heads`) and does not load others"
        )
    return {}


def _has_shared(facts: Facts) -> bool:
    return bool(facts["moe_num_shared_experts"])


ERNIE4_5_MOE = Architecture(
    "ernie4_5-moe",
    TOP,
    (
        ATTN_NORM,
        *QKV,
        ATTN_OUTPUT,
        FFN_NORM,
        *changed(FFN, where=leading),
        *changed(EXPERTS, where=behind),
        TensorLine(
            "exp_probs_b.bias", "experts one", "mlp.moe_statics.e_score_correction_bias", where=behind, optional=True
        ),
        *changed(renamed(SHARED, "shared_expert", "shared_experts"), where=behind, asked=_has_shared, optional=True),
    ),
    (
        ModelClass(
            "Ernie4_5_MoeForCausalLM",
            {
                "rms_norm_eps": 1e-5,
                "rope_theta": 500_000.0,
                "tie_word_embeddings": True,
                "num_key_value_heads": 4,
                "max_position_embeddings": 131072,
                "num_experts": 64,
                "num_experts_per_tok": 6,
                "moe_intermediate_size": 1536,
                "moe_num_shared_experts": 2,
                "moe_layer_start_index": 1,
                "moe_layer_interval": 1,
            },
            spellings={"moe_num_experts": "num_experts", "moe_k": "num_experts_per_tok"},
            mixture=True,
            only=SILU | {"use_bias": (False, None), "moe_layer_interval": (1, None), "moe_norm_min": (1e-12, None)},
            facts=_checked,
            vocabulary="ernie",
            dropped=r"model\.mtp_(block|emb_norm|hidden_norm|linear_proj)\.\d+",
            stacks=("ffn_gate_exps.weight", "ffn_up_exps.weight", "ffn_down_exps.weight"),
        ),
    ),
    keys=(
        MetadataKey("expert_count", "num_experts", size="experts", behind=True),
        MetadataKey("expert_used_count", "num_experts_per_tok", size="experts_used", behind=True),
        MetadataKey("interleave_moe_layer_step", "moe_layer_interval"),
        MetadataKey("leading_dense_block_count", "moe_layer_start_index", size="leading"),
        "expert_feed_forward_length",
        MetadataKey("expert_shared_count", "moe_num_shared_experts"),
        MetadataKey("expert_shared_feed_forward_length", _shared, size="sff"),
    ),
    sizes=_one,
    needed=(
        *(*NEEDED, "expert_count", "expert_used_count", "expert_feed_forward_length"),
        *("interleave_moe_layer_step", "leading_dense_block_count"),
    ),
    since=11312,
    operations=(
        *attended(Attend("norm")),
        Norm("ffn_norm"),
        Feed(where=leading),
        Experts(where=behind),
        Add(),
    ),
    experts="always",
)
