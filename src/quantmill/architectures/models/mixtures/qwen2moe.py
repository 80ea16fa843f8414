"""Qwen 1.5's and 2's mixtures: experts that all tokens take beside those that they choose."""

from quantmill.architectures.architecture import NEEDED, Architecture, MetadataKey, ModelClass
from quantmill.architectures.conditions import Sizes
from quantmill.architectures.models.pieces import (
    ATTN_NORM,
    ATTN_OUTPUT,
    COMMON,
    EXPERTS,
    FFN_NORM,
    OUTPUT,
    QKV,
    QKV_BIAS,
    SHARED,
    SHARED_GATE,
    SILU,
    TOP,
    attended,
    changed,
)
from quantmill.architectures.operations import Add, Attend, Experts, Norm


def _gate(sizes: Sizes) -> Sizes:
    return {"one": 1}


QWEN2MOE = Architecture(
    "qwen2moe",
    (*TOP[:-1], *changed([OUTPUT], optional=False)),
    (
        ATTN_NORM,
        *QKV,
        *QKV_BIAS,
        ATTN_OUTPUT,
        FFN_NORM,
        *EXPERTS,
        SHARED_GATE,
        *SHARED,
    ),
    (
        ModelClass(
            "Qwen2MoeForCausalLM",
            {
                **COMMON,
                "num_key_value_heads": 16,
                "max_position_embeddings": 32768,
                "num_experts": 60,
                "num_experts_per_tok": 4,
                "moe_intermediate_size": 1408,
                "shared_expert_intermediate_size": 5632,
                "decoder_sparse_step": 1,
                "mlp_only_layers": (),
            },
            mixture=True,
            only=SILU | {"norm_topk_prob": (False, None), "qkv_bias": (True, None)},
            windows="asked",
        ),
    ),
    keys=(
        "expert_feed_forward_length",
        MetadataKey("expert_shared_feed_forward_length", "shared_expert_intermediate_size", size="sff"),
    ),
    sizes=_gate,
    needed=(*NEEDED, "expert_count", "expert_used_count"),
    since=11312,
    operations=(*attended(Attend()), Norm("ffn_norm"), Experts(normalized=False), Add()),
    experts="always",
    whole_heads=True,
)
