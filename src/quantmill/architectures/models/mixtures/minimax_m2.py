"""MiniMax M2: norms of all heads' queries together, of which a part turns, and experts chosen by a sigmoid."""

from collections.abc import Mapping
from typing import Any

from quantmill.architectures.architecture import NEEDED, Architecture, Facts, MetadataKey, ModelClass, TensorLine
from quantmill.architectures.errors import ModelError
from quantmill.architectures.models.pieces import (
    ATTN_NORM,
    ATTN_OUTPUT,
    EXPERTS_ALONE,
    FFN_NORM,
    OUTPUT,
    QKV,
    SILU,
    TOP,
    W_EXPERTS,
    attended,
    changed,
)
from quantmill.architectures.operations import Add, Attend, Experts, Norm


def _checked(facts: Facts) -> Mapping[str, Any]:
    rotary, kinds = facts.get("rotary_dim"), facts.get("attn_type_list")
    if not isinstance(rotary, int) or isinstance(rotary, bool) or not 0 < rotary <= facts["head_dim"] or rotary % 2:
        raise ModelError(
            f"config.json's `rotary_dim` is {rotary!r}; an even number up to the `head_dim` {facts['head_dim']} would "
            "be right"
        )
    if kinds is not None and (not isinstance(kinds, list) or any(kind != 1 for kind in kinds)):
        raise ModelError("config.json's `attn_type_list` has layers of another attention than 1; all need to have that")
    if facts.get("scoring_func") is None:
        raise ModelError(
            "config.json lacks `scoring_func`, without which llama.cpp does not run the model; sigmoid is it"
        )
    return {}


MINIMAX_M2 = Architecture(
    "minimax-m2",
    (*TOP[:-1], *changed([OUTPUT], optional=False)),
    (
        ATTN_NORM,
        *QKV,
        TensorLine("attn_q_norm.weight", "q", "self_attn.q_norm.weight"),
        TensorLine("attn_k_norm.weight", "kv", "self_attn.k_norm.weight"),
        ATTN_OUTPUT,
        FFN_NORM,
        *W_EXPERTS,
        TensorLine("exp_probs_b.bias", "experts", "block_sparse_moe.e_score_correction_bias"),
    ),
    (
        ModelClass(
            "MiniMaxM2ForCausalLM",
            {
                "rms_norm_eps": 1e-6,
                "rope_theta": 5_000_000.0,
                "tie_word_embeddings": False,
                "num_key_value_heads": 8,
                "max_position_embeddings": 196608,
                "head_dim": 128,
                "num_experts": 256,
                "num_experts_per_tok": 8,
            },
            spellings=EXPERTS_ALONE,
            ignored=("partial_rotary_factor",),
            mixture=True,
            only=SILU
            | {
                "use_qk_norm": (True, None),
                "qk_norm_type": ("per_layer", None),
                "use_routing_bias": (True, None),
                "scoring_func": ("sigmoid",),
                "shared_intermediate_size": (0, None),
            },
            facts=_checked,
        ),
    ),
    keys=(
        MetadataKey("expert_feed_forward_length", "intermediate_size"),
        MetadataKey("rope.dimension_count", "rotary_dim", size="rotary", behind=True),
    ),
    needed=(*NEEDED, "expert_count", "expert_used_count", "expert_feed_forward_length"),
    since=11312,
    operations=(*attended(Attend(qk_norm=True, normed="whole")), Norm("ffn_norm"), Experts(scoring="sigmoid"), Add()),
    experts="always",
)
