"""Liquid's LFM 2: short convolutions, and attention in some layers."""

from collections.abc import Mapping
from typing import Any

from quantmill.architectures.architecture import Architecture, Facts, MetadataKey, ModelClass, TensorLine
from quantmill.architectures.conditions import Sizes, attending, recurrent, whole
from quantmill.architectures.errors import ModelError
from quantmill.architectures.models.pieces import COMMON, FED, ONLY, QKV, changed, check_whole_heads
from quantmill.architectures.operations import Add, Attend, Norm, ShortConvolve

_KINDS = {"conv", "full_attention"}


def _reading(stated: Facts) -> Mapping[str, Any]:
    """Layers as a list, from the places of those with attention."""
    if stated.get("layer_types") is not None or not isinstance(stated.get("num_hidden_layers"), int):
        return {}
    count = stated["num_hidden_layers"]
    places = stated.get("full_attn_idxs")
    places = places if isinstance(places, list) else range(count)
    return {"layer_types": ["full_attention" if layer in places else "conv" for layer in range(count)]}


def _widths(facts: Facts) -> Mapping[str, Any]:
    """Key-value heads by the layer, and the feed-forward part's width as the class adjusts it."""
    check_whole_heads(facts)
    kinds, count = facts["layer_types"], facts["num_hidden_layers"]
    if not isinstance(kinds, list) or len(kinds) != count or not _KINDS.issuperset(map(str, kinds)):
        raise ModelError(f"config.json's `layer_types` is no list of {count} times 'conv' or 'full_attention'")
    width = facts["block_ff_dim"] if facts["block_ff_dim"] is not None else facts["intermediate_size"]
    found = {key: facts[key] for key in ("block_multiple_of", "conv_L_cache")} | {"block_ff_dim": width}
    for key, value in found.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ModelError(f"config.json's `{key}` is {value!r}; a positive whole number would be right")
    factor = facts["block_ffn_dim_multiplier"]
    if factor is not None and (not isinstance(factor, int | float) or isinstance(factor, bool) or not factor > 0):
        raise ModelError(f"config.json's `block_ffn_dim_multiplier` is {factor!r}; a number above 0 would be right")
    if not isinstance(facts["block_auto_adjust_ff_dim"], bool):
        raise ModelError("config.json's `block_auto_adjust_ff_dim` is neither true nor false")
    if facts["block_auto_adjust_ff_dim"]:
        width = int(2 * width / 3)
        width = int(factor * width) if factor is not None else width
        width = -(-width // facts["block_multiple_of"]) * facts["block_multiple_of"]
    heads = facts["num_key_value_heads"]
    return {"kv_by_layer": [heads if kind != "conv" else 0 for kind in kinds], "intermediate_size": width}


def _sizes(sizes: Sizes) -> Sizes:
    return {"conv_in": 3 * whole(sizes["embd"])}


_EVERY = 1 << 20  # where a file has a window, it is of all layers that attend
LFM2 = Architecture(
    "lfm2",
    (
        TensorLine("token_embd.weight", "embd vocab", "model.embed_tokens.weight"),
        TensorLine("token_embd_norm.weight", "embd", "model.embedding_norm.weight"),
        TensorLine("output.weight", "embd vocab", "lm_head.weight", optional=True),
    ),
    (
        TensorLine("attn_norm.weight", "embd", "operator_norm.weight"),
        *changed(QKV, where=attending),
        TensorLine("attn_q_norm.weight", "head", "self_attn.q_layernorm.weight", where=attending),
        TensorLine("attn_k_norm.weight", "head", "self_attn.k_layernorm.weight", where=attending),
        TensorLine("attn_output.weight", "q embd", "self_attn.out_proj.weight", where=attending),
        TensorLine("shortconv.in_proj.weight", "embd conv_in", "conv.in_proj.weight", where=recurrent),
        TensorLine(
            "shortconv.conv.weight", "conv embd", "conv.conv.weight", where=recurrent, change="squeeze", f32=True
        ),
        TensorLine("shortconv.out_proj.weight", "embd embd", "conv.out_proj.weight", where=recurrent),
        TensorLine("ffn_norm.weight", "embd", "ffn_norm.weight"),
        TensorLine("ffn_gate.weight", "embd ff", "feed_forward.w1.weight"),
        TensorLine("ffn_down.weight", "ff embd", "feed_forward.w2.weight"),
        TensorLine("ffn_up.weight", "embd ff", "feed_forward.w3.weight"),
    ),
    (
        ModelClass(
            "Lfm2ForCausalLM",
            {
                **COMMON,
                "rms_norm_eps": 1e-5,
                "rope_theta": 1_000_000.0,
                "tie_word_embeddings": True,
                "max_position_embeddings": 128_000,
                "num_key_value_heads": 8,
                "block_ff_dim": None,
                "block_multiple_of": 256,
                "block_ffn_dim_multiplier": 1.0,
                "block_auto_adjust_ff_dim": True,
                "conv_L_cache": 3,
            },
            spellings={"norm_eps": "rms_norm_eps", "tie_embedding": "tie_word_embeddings", "theta": "rope_theta"},
            only=ONLY | {"conv_bias": (False, None)},
            reading=_reading,
            facts=_widths,
        ),
    ),
    keys=(
        MetadataKey("attention.head_count_kv", "kv_by_layer", size="kv_heads"),
        "vocab_size",
        MetadataKey("shortconv.l_cache", "conv_L_cache", size="conv"),
    ),
    sizes=_sizes,
    since=9665,
    operations=(
        Norm("attn_norm"),
        Attend(qk_norm=True, where=attending),
        ShortConvolve(where=recurrent),
        Add(),
        *FED,
    ),
    window_pattern=_EVERY,
    window_base=0.0,
    may_lack_windows=True,
    last_norm="token_embd_norm",
)
