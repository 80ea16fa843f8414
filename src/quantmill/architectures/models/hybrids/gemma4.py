"""Gemma 4: windows in layers of narrower heads, states beside each token's own, keys and values of earlier layers."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from quantmill.architectures.architecture import NEEDED, Architecture, Facts, MetadataKey, ModelClass, TensorLine
from quantmill.architectures.conditions import Sizes, mixture, of, whole
from quantmill.architectures.errors import ModelError
from quantmill.architectures.models.pieces import (
    ATTN_NORM,
    ATTN_OUTPUT,
    EXPERTS,
    FFN,
    ONLY,
    POST_ATTENTION_NORM,
    POST_FFN_NORM,
    QK_NORM,
    QKV,
    changed,
    without,
)
from quantmill.architectures.operations import (
    Add,
    Aside,
    Attend,
    Experts,
    Feed,
    Join,
    LayerInputs,
    Norm,
    Scale,
)
from quantmill.gguf import ValueType

_SLIDING, _FULL = "sliding_attention", "full_attention"
_PARTS = {"head_dim": "global_head_dim", "num_key_value_heads": "num_global_key_value_heads"}


def _mixed(wanted: bool) -> Callable[[Facts], bool]:
    def has(config: Facts) -> bool:
        text = config.get("text_config")
        table = {**config, **text} if isinstance(text, Mapping) else config
        return bool(table.get("enable_moe_block")) == wanted

    return has


def _reading(stated: Facts) -> Mapping[str, Any]:
    """What holds for all layers without a window, from what each of them is told."""
    found: dict[str, Any] = {"num_experts_per_tok": stated.get("top_k_experts")}
    layers, kinds = stated.get("per_layer_config"), stated.get("layer_types")
    if layers is None or not isinstance(kinds, list):
        return found
    whole = [str(index) for index, kind in enumerate(kinds) if kind == _FULL]
    tables = list(layers.values()) if isinstance(layers, Mapping) else []
    one = tables[0] if tables else None
    if not isinstance(one, Mapping) or any(table != one for table in tables) or sorted(layers, key=int) != whole:
        raise ModelError("config.json's `per_layer_config` is not one table for each layer without a window")
    if not set(_PARTS).issuperset(one):
        raise ModelError(f"config.json's `per_layer_config` has {sorted(one)}; {sorted(_PARTS)} can be converted")
    for key, name in _PARTS.items():
        if key in one:
            if stated.get(name) not in (None, one[key]):
                raise ModelError(f"config.json's `{name}` is {stated[name]!r}, and {one[key]!r} in `per_layer_config`")
            found[name] = one[key]
    return found


def _size(facts: Facts, key: str, least: int = 1) -> int:
    value = facts.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ModelError(f"config.json's `{key}` is {value!r}; a whole number from {least} would be right")
    return value


def _layers(facts: Facts) -> Mapping[str, Any]:
    """Windows, widths of heads and of the feed-forward part by the layer, and the factors of the widest heads' rope."""
    count, kinds = facts["num_hidden_layers"], facts["layer_types"]
    if not isinstance(kinds, list) or len(kinds) != count or not {_SLIDING, _FULL}.issuperset(map(str, kinds)):
        raise ModelError(f"config.json's `layer_types` is no list of {count} times {_FULL!r} or {_SLIDING!r}")
    head, head_swa = _size(facts, "global_head_dim"), _size(facts, "head_dim")
    shared, per_layer = _size(facts, "num_kv_shared_layers", 0), facts["hidden_size_per_layer_input"] or 0
    for key in ("hidden_size_per_layer_input", "moe_intermediate_size"):
        if facts.get(key) is not None:
            _size(facts, key, 0)
    if per_layer and facts["vocab_size_per_layer_input"] != facts["vocab_size"]:
        raise ModelError(
            f"config.json's `vocab_size_per_layer_input` is {facts['vocab_size_per_layer_input']!r}; `vocab_size`, "
            f"{facts['vocab_size']}, would be right"
        )
    if shared >= count:
        raise ModelError(f"config.json's `num_kv_shared_layers` is {shared} of {count} layers; fewer would be right")
    tables = facts.get("rope_parameters")
    full, sliding = (tables.get(kind) if isinstance(tables, Mapping) else None for kind in (_FULL, _SLIDING))
    if not isinstance(full, Mapping) or full.get("rope_type") != "proportional" or "partial_rotary_factor" not in full:
        raise ModelError(
            f"config.json's `rope_parameters.{_FULL}` is {full!r}; one of `rope_type` 'proportional' with a "
            "`partial_rotary_factor` would be right"
        )
    part = full["partial_rotary_factor"]
    if not isinstance(part, int | float) or isinstance(part, bool) or not 0 < part <= 1:
        raise ModelError(f"config.json's `rope_parameters.{_FULL}.partial_rotary_factor` is {part!r}; 1 is the most")
    base = sliding.get("rope_theta") if isinstance(sliding, Mapping) else None
    plain = isinstance(sliding, Mapping) and sliding.get("rope_type", "default") == "default"
    if not plain or base is None or (isinstance(sliding, Mapping) and "partial_rotary_factor" in sliding):
        raise ModelError(
            f"config.json's `rope_parameters.{_SLIDING}` is {sliding!r}; one of `rope_type` 'default' with a "
            "`rope_theta` alone would be right"
        )
    windowed = [kind == _SLIDING for kind in kinds]
    kv, kv_full, ff = facts["num_key_value_heads"], facts["num_global_key_value_heads"], facts["intermediate_size"]
    own = count - shared
    return {
        "windowed": windowed,
        "per_layer": per_layer,
        "rope_local_base_freq": base,
        "head_dim": head,
        "head_swa": head_swa,
        "kv_by_layer": kv if kv_full is None else [kv if window else kv_full for window in windowed],
        "ff_by_layer": [ff * (1 + (layer >= own)) for layer in range(count)] if facts["use_double_wide_mlp"] else ff,
        "turning": int(head * part / 2),
    }


def _sizes(sizes: Sizes) -> Sizes:
    layers = range(whole(sizes["layers"]))
    head, swa = whole(sizes["head"]), whole(sizes["head_swa"])
    heads = tuple(swa if of("windowed", sizes, layer) else head for layer in layers)
    return {
        "head": heads,
        "q": tuple(whole(sizes["heads"]) * width for width in heads),
        "kv": tuple(of("kv_heads", sizes, layer) * width for layer, width in enumerate(heads)),
        "per_layers": len(layers) * whole(sizes["per_layer"]),
        "two_eff": 2 * whole(sizes["eff"]),
        "one": 1,
    }


def has_own(sizes: Sizes, layer: int) -> bool:
    """One with keys and values of its own."""
    return layer < whole(sizes["layers"]) - whole(sizes["shared_kv"])


def _shares(sizes: Sizes, layer: int) -> bool:
    return not has_own(sizes, layer)


def has_inputs(sizes: Sizes, layer: int) -> bool:
    """One that sees states beside each token's own."""
    return whole(sizes["per_layer"]) > 0


def _has_values(facts: Facts) -> bool:
    """Whether a layer has values beside its keys: all but those without a window, of a model that says so."""
    return not facts["attention_k_eq_v"] or facts["windowed"][facts["layer"]]


_TEXT = ModelClass(
    "Gemma4ForCausalLM",
    {
        "rms_norm_eps": 1e-6,
        "rope_theta": 1_000_000.0,
        "tie_word_embeddings": True,
        "max_position_embeddings": 131072,
        "num_key_value_heads": None,
        "head_dim": 256,
        "sliding_window": 512,
        "layer_types": None,
        "num_kv_shared_layers": 0,
        "hidden_size_per_layer_input": 0,
        "vocab_size_per_layer_input": None,
        "num_global_key_value_heads": None,
        "use_double_wide_mlp": False,
        "attention_k_eq_v": False,
        "final_logit_softcapping": None,
    },
    when=_mixed(wanted=False),
    scalings=("proportional",),
    only=without(ONLY, "partial_rotary_factor", "final_logit_softcapping")
    | {
        "hidden_activation": ("gelu_pytorch_tanh", None),
        "attention_bias": (False, None),
        "use_bidirectional_attention": (False, "vision", None),
        "use_double_wide_mlp": (True, False, None),
        "attention_k_eq_v": (True, False, None),
    },
    reading=_reading,
    facts=_layers,
    vocabulary="gemma4",
    part="model.",
    layers="layers.",
)
_MIXED = replace(_TEXT, when=_mixed(wanted=True), mixture=True)


def _conditional(class_: ModelClass) -> ModelClass:
    """The class of text, images and sound."""
    return replace(
        class_,
        name="Gemma4ForConditionalGeneration",
        part="model.language_model.",
        others=(
            *("model.vision_tower.", "model.embed_vision.", "model.audio_tower.", "model.embed_audio."),
            "model.multi_modal_projector.",
        ),
    )


GEMMA4 = Architecture(
    "gemma4",
    (
        TensorLine("token_embd.weight", "embd vocab", "embed_tokens.weight"),
        TensorLine(
            "per_layer_token_embd.weight", "per_layers vocab", "embed_tokens_per_layer.weight", where=has_inputs
        ),
        TensorLine(
            "per_layer_model_proj.weight", "embd per_layers", "per_layer_model_projection.weight", where=has_inputs
        ),
        TensorLine("per_layer_proj_norm.weight", "per_layer", "per_layer_projection_norm.weight", where=has_inputs),
        TensorLine("output_norm.weight", "embd", "norm.weight"),
        TensorLine("output.weight", "embd vocab", "/lm_head.weight", optional=True),
        TensorLine("rope_freqs.weight", "pairs", asked=lambda facts: True),
    ),
    (
        ATTN_NORM,
        QKV[0],
        *changed((QKV[1], QK_NORM[1]), where=has_own),
        replace(QKV[2], where=has_own, asked=_has_values, optional=True),
        QK_NORM[0],
        ATTN_OUTPUT,
        POST_ATTENTION_NORM,
        TensorLine("ffn_norm.weight", "embd", "pre_feedforward_layernorm.weight"),
        *FFN,
        POST_FFN_NORM,
        *changed(
            (
                TensorLine(EXPERTS[0].name, EXPERTS[0].dims, "router.proj.weight"),
                TensorLine("ffn_gate_inp.scale", "embd", "router.scale"),
                TensorLine("pre_ffw_norm_2.weight", "embd", "pre_feedforward_layernorm_2.weight"),
                TensorLine("ffn_gate_up_exps.weight", "embd two_eff experts", "experts.gate_up_proj"),
                TensorLine("ffn_down_exps.weight", "eff embd experts", "experts.down_proj"),
                TensorLine("ffn_down_exps.scale", "experts", "router.per_expert_scale"),
                TensorLine("post_ffw_norm_1.weight", "embd", "post_feedforward_layernorm_1.weight"),
                TensorLine("post_ffw_norm_2.weight", "embd", "post_feedforward_layernorm_2.weight"),
            ),
            where=mixture,
        ),
        *changed(
            (
                TensorLine("inp_gate.weight", "embd per_layer", "per_layer_input_gate.weight"),
                TensorLine("proj.weight", "per_layer embd", "per_layer_projection.weight"),
                TensorLine("post_norm.weight", "embd", "post_per_layer_input_norm.weight"),
            ),
            where=has_inputs,
        ),
        TensorLine("layer_output_scale.weight", "one", "layer_scalar", optional=True),
    ),
    (_TEXT, _MIXED, _conditional(_TEXT), _conditional(_MIXED)),
    keys=(
        MetadataKey("feed_forward_length", "ff_by_layer", size="ff"),
        MetadataKey("attention.head_count_kv", "kv_by_layer", size="kv_heads"),
        MetadataKey("attention.key_length", "head_dim", size="head"),
        MetadataKey("final_logit_softcapping", "final_logit_softcapping", ValueType.FLOAT32),
        "attention.sliding_window",
        MetadataKey("attention.shared_kv_layers", "num_kv_shared_layers", size="shared_kv"),
        MetadataKey("embedding_length_per_layer_input", "per_layer", size="per_layer"),
        MetadataKey("attention.sliding_window_pattern", "windowed", ValueType.BOOL, size="windowed"),
        MetadataKey("attention.key_length_swa", "head_swa", size="head_swa"),
        MetadataKey("attention.value_length_swa", "head_swa"),
        "expert_feed_forward_length",
        MetadataKey("rope.dimension_count", "head_dim"),
        MetadataKey("rope.dimension_count_swa", "head_swa"),
    ),
    sizes=_sizes,
    needed=(*NEEDED, "attention.sliding_window"),
    since=11312,
    experts="maybe",
    scaled=("ffn_",),
    operations=(
        Norm("attn_norm"),
        Attend(qk_norm=True, value_norm=True, shared=_shares),
        Norm("post_attention_norm", of="change"),
        Add(),
        Norm("ffn_norm"),
        Feed("gelu"),
        Norm("post_ffw_norm_1", of="change", where=mixture),
        Aside(where=mixture),
        Norm("pre_ffw_norm_2", where=mixture),
        Experts("gelu", routed="states", where=mixture),
        Norm("post_ffw_norm_2", of="change", where=mixture),
        Join(where=mixture),
        Norm("post_ffw_norm", of="change"),
        Add(),
        LayerInputs(where=has_inputs),
        Norm("post_norm", of="change", where=has_inputs),
        Add(where=has_inputs),
        Scale("layer_output_scale"),
    ),
    numbers={"attention.scale": 1.0, "final_logit_softcapping": 30.0},
    embedding_scale=True,
)
