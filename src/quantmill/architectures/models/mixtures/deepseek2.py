"""DeepSeek V2 and V3: keys and values are compressed, and experts chosen in groups."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from quantmill.architectures.architecture import NEEDED, Architecture, Facts, MetadataKey, ModelClass, TensorLine
from quantmill.architectures.conditions import Sizes, behind, leading, whole
from quantmill.architectures.errors import ModelError
from quantmill.architectures.models.pieces import (
    ATTN_NORM,
    COMMON,
    EXPERTS,
    FFN,
    FFN_NORM,
    LEADING,
    SHARED,
    SILU,
    TOP,
    changed,
    renamed,
)
from quantmill.architectures.operations import Add, AttendCompressed, Experts, Feed, Norm
from quantmill.gguf import ValueType

_SIZES = ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "n_shared_experts")


_BY_GROUPS = "group_limited_greedy"


def _check_lite(facts: Facts) -> None:
    """llama.cpp knows the models without a low rank of queries by their layers."""
    layers, rank = facts["num_hidden_layers"], facts["q_lora_rank"]
    if (rank is None) != (layers in (26, 27) or (layers, facts["vocab_size"]) == (48, 128256)):
        raise ModelError(
            f"config.json's `q_lora_rank` is {rank!r} beside {layers} layers; llama.cpp's deepseek2 is without one "
            "where it has 26 or 27 layers (or 48, and a vocabulary of 128256), and nowhere else"
        )


def _notes(facts: Facts) -> Iterator[str]:
    """Where llama.cpp computes otherwise than transformers."""
    scaling = facts["rope_scaling"] or {}
    for key, right in (("beta_fast", 32), ("beta_slow", 1)):
        if scaling.get("type") == "yarn" and scaling.get(key) not in (None, right):
            yield f"config.json's `rope_scaling.{key}` is {scaling[key]!r}; llama.cpp's deepseek2 computes by {right}"
    if facts["topk_method"] == _BY_GROUPS and (facts["n_group"] or 0) > 1:
        yield (
            "config.json's `topk_method` takes the groups of experts with the best expert; llama.cpp's deepseek2 takes "
            "those with the best two"
        )


def _mla(facts: Facts) -> Mapping[str, Any]:
    """Heads of one compressed key-value, and how YaRN scales them."""
    heads = facts["num_attention_heads"]
    if facts["num_key_value_heads"] != heads:
        raise ModelError(
            f"config.json's `num_key_value_heads` is {facts['num_key_value_heads']}; deepseek2 has as many as heads"
        )
    for key in (*_SIZES, "first_k_dense_replace", *(["q_lora_rank"] if facts["q_lora_rank"] is not None else [])):
        value = facts[key]
        if not isinstance(value, int) or isinstance(value, bool) or value < (key != "first_k_dense_replace"):
            raise ModelError(f"config.json's `{key}` is {value!r}; a positive whole number would be right")
    rope = facts["qk_rope_head_dim"]
    if facts.get("head_dim") not in (None, rope):
        raise ModelError(f"config.json's `head_dim` is {facts['head_dim']!r}; deepseek2 has `qk_rope_head_dim`, {rope}")
    key = facts["qk_nope_head_dim"] + rope
    if facts.get("qk_head_dim", key) != key:
        raise ModelError(f"config.json's `qk_head_dim` is {facts['qk_head_dim']!r}; its two parts have {key} columns")
    _check_lite(facts)
    if facts["topk_method"] != _BY_GROUPS and "has_bias" not in facts and facts["n_group"] not in (None, 0, 1):
        raise ModelError(
            f"config.json's `n_group` is {facts['n_group']!r} beside the `topk_method` {facts['topk_method']!r}, "
            f"which has none; 1, or the method {_BY_GROUPS!r}, would be right"
        )
    scaling = facts["rope_scaling"] or {}
    both = scaling.get("mscale"), scaling.get("mscale_all_dim")
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in both)
    if both != (None, None) and (not numbers or both[0] != both[1]):
        raise ModelError(
            f"config.json's `rope_scaling.mscale` and `mscale_all_dim` are {both[0]!r} and {both[1]!r}; the same "
            "number for both would be right"
        )
    return {
        "num_key_value_heads": 1,
        "head_dim": facts["kv_lora_rank"] + rope,
        "key_length_mla": key,
        "log_multiplier": None if both[1] is None else 0.1 * both[1],
        "kv_heads_stated": heads,
    }


def _widths(sizes: Sizes) -> Sizes:
    heads, key, rope, values, rank = (whole(sizes[name]) for name in ("heads", "mla", "rotary", "v_head", "kv_rank"))
    nope = key - rope
    return {
        "nope": nope,
        "qk": heads * key,
        "kv_a": rank + rope,
        "kv_b": heads * (nope + values),
        "values": heads * values,
        "sff": whole(sizes["eff"]) * whole(sizes["n_shared"]),
    }


def _compressed(sizes: Sizes, layer: int) -> bool:
    return whole(sizes["q_rank"]) > 0


def _uncompressed(sizes: Sizes, layer: int) -> bool:
    return not _compressed(sizes, layer)


_V2 = ModelClass(
    "DeepseekV2ForCausalLM",
    {
        **COMMON,
        "max_position_embeddings": 2048,
        "num_key_value_heads": None,
        "first_k_dense_replace": 0,
        "kv_lora_rank": 512,
        "q_lora_rank": 1536,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "n_shared_experts": 2,
        "num_experts": 64,
        "num_experts_per_tok": None,
        "moe_intermediate_size": 1407,
        "routed_scaling_factor": 1.0,
        "norm_topk_prob": False,
        "topk_method": "greedy",
        "n_group": None,
        "topk_group": None,
    },
    spellings={"n_routed_experts": "num_experts"},
    mixture=True,
    yarn={"mscale": (), "mscale_all_dim": (), "beta_fast": (), "beta_slow": ()},
    only=SILU
    | {
        "attention_bias": (False, None),
        "mlp_bias": (False, None),
        "moe_layer_freq": (1, None),
        "ep_size": (1, None),
        "norm_topk_prob": (False, None),
        "scoring_func": ("softmax", None),
        "topk_method": ("greedy", _BY_GROUPS, None),
    },
    facts=_mla,
    notes=_notes,
    is_cut=True,
    is_tied_alone=True,
)

DEEPSEEK2 = Architecture(
    "deepseek2",
    TOP,
    (
        ATTN_NORM,
        TensorLine("attn_q.weight", "embd qk", "self_attn.q_proj.weight", where=_uncompressed),
        TensorLine("attn_q_a.weight", "embd q_rank", "self_attn.q_a_proj.weight", where=_compressed),
        TensorLine("attn_q_a_norm.weight", "q_rank", "self_attn.q_a_layernorm.weight", where=_compressed),
        TensorLine("attn_q_b.weight", "q_rank qk", "self_attn.q_b_proj.weight", where=_compressed),
        TensorLine("attn_kv_a_mqa.weight", "embd kv_a", "self_attn.kv_a_proj_with_mqa.weight"),
        TensorLine("attn_kv_a_norm.weight", "kv_rank", "self_attn.kv_a_layernorm.weight"),
        TensorLine(
            "attn_k_b.weight", "nope kv_rank heads", "self_attn.kv_b_proj.weight", cut=("", "kv_b"), change="keys_b"
        ),
        TensorLine(
            "attn_v_b.weight", "kv_rank v_head heads", "self_attn.kv_b_proj.weight", cut=("", "kv_b"), change="values_b"
        ),
        TensorLine("attn_output.weight", "values embd", "self_attn.o_proj.weight"),
        FFN_NORM,
        *changed(FFN, where=leading),
        *changed(EXPERTS, where=behind),
        TensorLine(
            "exp_probs_b.bias",
            "experts",
            "mlp.gate.e_score_correction_bias",
            asked="has_bias",
            where=behind,
            optional=True,
        ),
        *changed(renamed(SHARED, "shared_expert", "shared_experts"), where=behind),
    ),
    (
        _V2,
        replace(
            _V2,
            name="DeepseekV3ForCausalLM",
            vocabulary="kimi",
            defaults={
                **_V2.defaults,
                "max_position_embeddings": 4096,
                "first_k_dense_replace": 3,
                "n_shared_experts": 1,
                "num_experts": 256,
                "num_experts_per_tok": 8,
                "moe_intermediate_size": 2048,
                "routed_scaling_factor": 2.5,
                "norm_topk_prob": True,
                "n_group": 8,
                "topk_group": 4,
                "has_bias": True,
            },
            only={
                **_V2.only,
                "norm_topk_prob": (True, False, None),
                "scoring_func": ("sigmoid", None),
                "topk_method": ("noaux_tc", None),
                "rope_interleave": (True, None),
            },
        ),
    ),
    keys=(
        LEADING,
        "vocab_size",
        MetadataKey("attention.q_lora_rank", "q_lora_rank", size="q_rank"),
        MetadataKey("attention.kv_lora_rank", "kv_lora_rank", size="kv_rank"),
        MetadataKey("attention.value_length", "kv_lora_rank"),
        MetadataKey("attention.key_length_mla", "key_length_mla", size="mla"),
        MetadataKey("attention.value_length_mla", "v_head_dim", size="v_head"),
        "expert_feed_forward_length",
        MetadataKey("expert_shared_count", "n_shared_experts", size="n_shared"),
        MetadataKey("expert_weights_scale", "routed_scaling_factor", ValueType.FLOAT32),
        MetadataKey("expert_weights_norm", lambda facts: True if facts["norm_topk_prob"] else None, ValueType.BOOL),
        MetadataKey("rope.dimension_count", "qk_rope_head_dim", size="rotary"),
        MetadataKey("rope.scaling.yarn_log_multiplier", "log_multiplier", ValueType.FLOAT32),
    ),
    sizes=_widths,
    needed=(*NEEDED, "expert_count", "expert_used_count"),
    since=11312,
    experts="always",
    most_experts=1024,
    operations=(
        Norm("attn_norm"),
        AttendCompressed(),
        Add(),
        Norm("ffn_norm"),
        Feed(where=leading),
        Experts(scoring="stated", normalized="stated", where=behind),
        Add(),
    ),
)
