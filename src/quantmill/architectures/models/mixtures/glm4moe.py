"""GLM 4.5 and later: dense layers before a mixture's, and layers that predict a token more, which nothing computes."""

from collections.abc import Mapping
from typing import Any

from quantmill.architectures.architecture import NEEDED, Architecture, Facts, MetadataKey, ModelClass, TensorLine
from quantmill.architectures.conditions import Sizes, behind, leading, whole
from quantmill.architectures.errors import ModelError
from quantmill.architectures.models.pieces import (
    ATTN_NORM,
    ATTN_OUTPUT,
    EXPERTS,
    FFN,
    LEADING,
    POST_ATTENTION_NORM,
    QK_NORM,
    QKV,
    QKV_BIAS,
    SHARED,
    SILU,
    TOP,
    asked,
    changed,
    renamed,
    without,
)
from quantmill.architectures.operations import Add, Attend, Experts, Feed, Norm
from quantmill.gguf import ValueType

# What a layer that predicts a token more has beside others, and what it may share with the model.
_NEXT = (
    TensorLine("nextn.eh_proj.weight", "twice embd", "eh_proj.weight"),
    TensorLine("nextn.enorm.weight", "embd", "enorm.weight"),
    TensorLine("nextn.hnorm.weight", "embd", "hnorm.weight"),
)
_NEXT_OWN = (
    TensorLine("nextn.embed_tokens.weight", "embd vocab", "embed_tokens.weight"),
    TensorLine("nextn.shared_head_head.weight", "embd vocab", "shared_head.head.weight"),
    TensorLine("nextn.shared_head_norm.weight", "embd", "shared_head.norm.weight"),
)


def predicts(sizes: Sizes, layer: int) -> bool:
    """One of the last layers, which predict a token more."""
    return layer >= whole(sizes["layers"]) - whole(sizes["next"])


def _main(sizes: Sizes, layer: int) -> bool:
    return not predicts(sizes, layer)


def _mixed(sizes: Sizes, layer: int) -> bool:
    return _main(sizes, layer) and behind(sizes, layer)


def _rotary(facts: Facts) -> int:
    part, head = facts["partial_rotary_factor"], facts["head_dim"]
    if not isinstance(part, int | float) or isinstance(part, bool) or not 0 < part <= 1:
        raise ModelError(f"config.json's `partial_rotary_factor` is {part!r}; a number of at most 1 would be right")
    return int(head * part)


def _shared(sizes: Sizes) -> Sizes:
    return {"sff": whole(sizes["eff"]) * whole(sizes["n_shared"]), "twice": 2 * whole(sizes["embd"])}


def _layers(facts: Facts) -> Mapping[str, Any]:
    """With the layers that predict a token more, which are the last."""
    more = facts.get("num_nextn_predict_layers")
    if more is None:
        return {}
    if not isinstance(more, int) or isinstance(more, bool) or not 0 <= more < 2**31:
        raise ModelError(f"config.json's `num_nextn_predict_layers` is {more!r}; a whole number would be right")
    return {"num_hidden_layers": facts["num_hidden_layers"] + more}


GLM4MOE = Architecture(
    "glm4moe",
    TOP,
    (
        ATTN_NORM,
        *QKV,
        *asked(QKV_BIAS, "attention_bias", optional=True),
        *asked(QK_NORM, "use_qk_norm", optional=True),
        ATTN_OUTPUT,
        POST_ATTENTION_NORM,
        *changed(FFN, where=leading),
        *changed(EXPERTS, where=behind),
        TensorLine("exp_probs_b.bias", "experts", "mlp.gate.e_score_correction_bias", where=behind),
        *changed(renamed(SHARED, "shared_expert", "shared_experts"), where=behind),
        *changed(_NEXT, where=predicts),
        *changed(_NEXT_OWN, where=predicts, optional=True),
    ),
    (
        ModelClass(
            "Glm4MoeForCausalLM",
            {
                "rms_norm_eps": 1e-5,
                "rope_theta": 10000.0,
                "tie_word_embeddings": False,
                "num_key_value_heads": 8,
                "max_position_embeddings": 131072,
                "head_dim": None,
                "partial_rotary_factor": 0.5,
                "num_experts": 128,
                "num_experts_per_tok": 8,
                "moe_intermediate_size": 1408,
                "n_shared_experts": 1,
                "n_group": 1,
                "topk_group": 1,
                "first_k_dense_replace": 1,
                "routed_scaling_factor": 1.0,
                "norm_topk_prob": True,
            },
            spellings={"n_routed_experts": "num_experts"},
            mixture=True,
            only=without(SILU, "partial_rotary_factor") | {"norm_topk_prob": (True, None)},
            facts=_layers,
            vocabulary="glm",
        ),
    ),
    keys=(
        MetadataKey("rope.dimension_count", _rotary, size="rotary", behind=True),
        "expert_feed_forward_length",
        MetadataKey("expert_shared_count", "n_shared_experts", size="n_shared"),
        LEADING,
        MetadataKey("expert_gating_func", lambda facts: 2, behind=True),
        MetadataKey("expert_weights_scale", "routed_scaling_factor", ValueType.FLOAT32),
        MetadataKey("expert_weights_norm", "norm_topk_prob", ValueType.BOOL),
        MetadataKey("nextn_predict_layers", "num_nextn_predict_layers", size="next"),
    ),
    sizes=_shared,
    needed=(*NEEDED, "expert_count", "expert_used_count", "expert_feed_forward_length", "expert_shared_count"),
    since=11312,
    operations=(
        Norm("attn_norm", where=_main),
        Attend(qk_norm=True, where=_main),
        Add(where=_main),
        Norm("post_attention_norm", where=_main),
        Feed(where=leading),
        Experts(scoring="stated", normalized="stated", where=_mixed),
        Add(where=_main),
    ),
    experts="always",
    scoring="sigmoid",
)
