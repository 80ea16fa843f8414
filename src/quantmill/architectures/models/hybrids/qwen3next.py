"""Qwen 3 Next: layers of gated delta nets, and every fourth of gated attention, with a mixture of experts in each."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from quantmill.architectures.architecture import NEEDED, Architecture, Facts, MetadataKey, ModelClass, TensorLine
from quantmill.architectures.conditions import Sizes, of, whole
from quantmill.architectures.errors import ModelError
from quantmill.architectures.models.pieces import (
    ATTN_NORM,
    ATTN_OUTPUT,
    COMMON,
    EXPERTS,
    OUTPUT,
    QK_NORM,
    QKV,
    SHARED,
    SHARED_GATE,
    SILU,
    TOP,
    changed,
    one_added,
    without,
)
from quantmill.architectures.operations import Add, Attend, DeltaNet, Experts, Norm
from quantmill.gguf import ValueType

_SIZES = (
    *("linear_conv_kernel_dim", "linear_key_head_dim", "linear_value_head_dim"),
    *("linear_num_key_heads", "linear_num_value_heads"),
)
_KINDS = {"linear_attention", "full_attention"}
LINEAR = {
    "max_position_embeddings": 32768,
    "num_key_value_heads": 2,
    "head_dim": 256,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
    "full_attention_interval": 4,
    "partial_rotary_factor": 0.25,
    "mtp_num_hidden_layers": 1,
    "layer_types": None,
}


def is_delta(sizes: Sizes, layer: int) -> bool:
    """One of the layers with a delta net."""
    return bool(of("recurrent", sizes, layer))


def is_attending(sizes: Sizes, layer: int) -> bool:
    """One with attention."""
    return not is_delta(sizes, layer)


def is_next(sizes: Sizes, layer: int) -> bool:
    """One behind the model's own, which predicts a token more."""
    return layer >= whole(sizes["layers"]) - whole(sizes["nextn"])


def linear_facts(facts: Facts) -> Mapping[str, Any]:
    """Layers with delta nets, columns of a head that turn, and the layer that predicts a token more."""
    mixed = ("shared_expert_intermediate_size",) if "num_experts" in facts else ()
    for key in (*_SIZES, "full_attention_interval", *mixed):
        value = facts[key]
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ModelError(f"config.json's `{key}` is {value!r}; a positive whole number would be right")
    if facts["linear_num_value_heads"] % facts["linear_num_key_heads"]:
        raise ModelError("config.json's `linear_num_key_heads` does not divide `linear_num_value_heads`")
    if facts["linear_key_head_dim"] != facts["linear_value_head_dim"]:
        raise ModelError(
            f"config.json's `linear_value_head_dim` is {facts['linear_value_head_dim']}; llama.cpp has heads of keys "
            f"and values of the same width, {facts['linear_key_head_dim']}"
        )
    count, every, kinds = facts["num_hidden_layers"], facts["full_attention_interval"], facts["layer_types"]
    usual = ["full_attention" if (layer + 1) % every == 0 else "linear_attention" for layer in range(count)]
    kinds = usual if kinds is None else kinds
    if not isinstance(kinds, list) or len(kinds) != count or not _KINDS.issuperset(map(str, kinds)):
        raise ModelError(
            f"config.json's `layer_types` is no list of {count} times 'linear_attention' or 'full_attention'"
        )
    part = facts["partial_rotary_factor"]
    if not isinstance(part, int | float) or isinstance(part, bool) or not 0 < part <= 1:
        raise ModelError(f"config.json's `partial_rotary_factor` is {part!r}; a number of at most 1 would be right")
    more = facts["mtp_num_hidden_layers"] or 1
    return {
        "recurrent": [kind == "linear_attention" for kind in kinds] + [False] * more,
        "rotary": int(facts["head_dim"] * part),
        "inner": facts["linear_value_head_dim"] * facts["linear_num_value_heads"],
        "nextn": more,
        "num_hidden_layers": count + more,
    }


LINEAR_KEYS = (
    MetadataKey("nextn_predict_layers", "nextn", size="nextn"),
    MetadataKey("ssm.conv_kernel", "linear_conv_kernel_dim", size="conv"),
    MetadataKey("ssm.state_size", "linear_key_head_dim", size="states"),
    MetadataKey("ssm.group_count", "linear_num_key_heads", size="groups"),
    MetadataKey("ssm.time_step_rank", "linear_num_value_heads", size="ssm_heads"),
    MetadataKey("ssm.inner_size", "inner", size="inner"),
    MetadataKey("attention.recurrent_layers", "recurrent", ValueType.BOOL, size="recurrent"),
    MetadataKey("full_attention_interval", "full_attention_interval"),
    MetadataKey("rope.dimension_count", "rotary", size="rotary"),
)
SHARED_KEY = MetadataKey("expert_shared_feed_forward_length", "shared_expert_intermediate_size", size="sff")


def linear_sizes(sizes: Sizes) -> Sizes:
    """Widths of a delta net's matrices, of the gated queries, and of two embeddings."""
    keys, inner, heads = whole(sizes["groups"]) * whole(sizes["states"]), whole(sizes["inner"]), sizes["ssm_heads"]
    return {
        "qkv": 2 * keys + inner,
        "qkvz": 2 * keys + 2 * inner,
        "two_heads": 2 * whole(heads),
        "gated_q": 2 * whole(sizes["q"]),
        "value_head": inner // max(whole(heads), 1),
        "two_embd": 2 * whole(sizes["embd"]),
        "one": 1,
    }


def _added(name: str, dims: str, source: str) -> TensorLine:
    return TensorLine(name, dims, source, added=1, where=is_next, optional=True)


POST_NORM = TensorLine("post_attention_norm.weight", "embd", "post_attention_layernorm.weight", added=1)
# Attention, whose queries have gates beside them.
GATED = (
    TensorLine("attn_q.weight", "embd gated_q", "self_attn.q_proj.weight", where=is_attending),
    *changed((*QKV[1:], *one_added(QK_NORM), ATTN_OUTPUT), where=is_attending),
)
# Behind the last layer, what makes a layer's states of the last layer's and of the next token's embedding.
NEXT = (
    TensorLine("nextn.eh_proj.weight", "two_embd embd", "/mtp.fc.weight", where=is_next, optional=True),
    _added("nextn.enorm.weight", "embd", "/mtp.pre_fc_norm_embedding.weight"),
    _added("nextn.hnorm.weight", "embd", "/mtp.pre_fc_norm_hidden.weight"),
    _added("nextn.shared_head_norm.weight", "embd", "/mtp.norm.weight"),
)


def delta(lines: Iterable[TensorLine]) -> tuple[TensorLine, ...]:
    """The lines, of layers with a delta net."""
    return changed(lines, where=is_delta)


QWEN3NEXT = Architecture(
    "qwen3next",
    (*one_added(TOP[:-1]), OUTPUT),
    (
        replace(ATTN_NORM, added=1),
        *GATED,
        *delta(
            (
                TensorLine(
                    *("attn_qkv.weight", "embd qkv", "linear_attn.in_proj_qkvz.weight"),
                    cut=("", "qkvz"),
                    change="without gates",
                ),
                TensorLine(
                    *("attn_gate.weight", "embd inner", "linear_attn.in_proj_qkvz.weight"),
                    cut=("", "qkvz"),
                    change="gates",
                ),
                TensorLine("ssm_conv1d.weight", "conv qkv", "linear_attn.conv1d.weight", change="squeeze", f32=True),
                TensorLine("ssm_dt.bias", "ssm_heads", "linear_attn.dt_bias"),
                TensorLine("ssm_a", "ssm_heads", "linear_attn.A_log", change="decay"),
                TensorLine("ssm_ba.weight", "embd two_heads", "linear_attn.in_proj_ba.weight"),
                TensorLine("ssm_norm.weight", "value_head", "linear_attn.norm.weight"),
                TensorLine("ssm_out.weight", "inner embd", "linear_attn.out_proj.weight"),
            )
        ),
        POST_NORM,
        *EXPERTS,
        SHARED_GATE,
        *SHARED,
        *NEXT,
    ),
    (
        ModelClass(
            "Qwen3NextForCausalLM",
            {
                **COMMON,
                **LINEAR,
                "num_experts": 512,
                "num_experts_per_tok": 10,
                "moe_intermediate_size": 512,
                "shared_expert_intermediate_size": 512,
                "decoder_sparse_step": 1,
                "mlp_only_layers": (),
            },
            mixture=True,
            only=without(SILU, "partial_rotary_factor")
            | {"norm_topk_prob": (True, None), "attention_bias": (False, None), "mtp_num_hidden_layers": (1, None)},
            facts=linear_facts,
            behind="mtp.layers.",
        ),
    ),
    keys=("expert_feed_forward_length", SHARED_KEY, *LINEAR_KEYS),
    sizes=linear_sizes,
    needed=(*NEEDED, "expert_count", "expert_used_count"),
    since=11312,
    experts="always",
    most_experts=1024,
    scaled=("ffn_",),
    operations=(
        Norm("attn_norm"),
        Attend(qk_norm=True, gated=True, where=is_attending),
        DeltaNet(interleaved=True, where=is_delta),
        Add(),
        Norm("post_attention_norm"),
        Experts(),
        Add(),
    ),
)
