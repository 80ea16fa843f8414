"""Gemma 3n: four sets of states, of which one is active, and inputs by the layer."""

import math
from collections.abc import Iterator, Mapping
from statistics import NormalDist
from struct import pack, unpack
from typing import Any

from quantmill.architectures.architecture import NEEDED, Architecture, Facts, MetadataKey, ModelClass, TensorLine
from quantmill.architectures.conditions import Sizes, whole
from quantmill.architectures.errors import ModelError
from quantmill.architectures.models.pieces import (
    ATTN_NORM,
    ATTN_OUTPUT,
    FFN,
    ONLY,
    POST_ATTENTION_NORM,
    POST_FFN_NORM,
    QK_NORM,
    QKV,
    without,
)
from quantmill.architectures.operations import (
    Add,
    Aside,
    Attend,
    Correct,
    Feed,
    Join,
    Laurel,
    LayerInputs,
    Norm,
    Predict,
    Scale,
)
from quantmill.gguf import ValueType

_SLIDING, _FULL = "sliding_attention", "full_attention"
_OWN = 20  # layers with keys and values of their own, as llama.cpp takes it of every model
_SPARSE = 10  # layers whose activations are sparse, so too


def _reading(stated: Facts) -> Mapping[str, Any]:
    """The feed-forward part's width, of which config.json has a list."""
    widths, count = stated.get("intermediate_size"), stated.get("num_hidden_layers")
    if isinstance(widths, int):
        return {"ff_by_layer": [widths] * (count if isinstance(count, int) else 0)}
    if not isinstance(widths, list) or not widths or any(width != widths[0] for width in widths):
        raise ModelError(f"config.json's `intermediate_size` is {widths!r}; one number for all layers would be right")
    return {"intermediate_size": widths[0], "ff_by_layer": widths}


def _f32(value: float) -> float:
    return float(unpack("<f", pack("<f", value))[0])


def sparsity_scale(part: float) -> float:
    """The deviations below which so large a part of a normal distribution is, with PyTorch's rounding to float32."""
    twice = _f32(2 * _f32(part) - 1)
    if abs(twice) >= 1:
        return math.copysign(math.inf, twice)
    inverse = NormalDist().inv_cdf((1 + twice) / 2) / math.sqrt(2)
    return _f32(_f32(inverse) * _f32(math.sqrt(2)))


def _layers(facts: Facts) -> Mapping[str, Any]:
    """Windows, and how sparse the activations of each layer are."""
    count, kinds = facts["num_hidden_layers"], facts["layer_types"]
    if not isinstance(kinds, list) or len(kinds) != count or not {_SLIDING, _FULL}.issuperset(map(str, kinds)):
        raise ModelError(f"config.json's `layer_types` is no list of {count} times {_FULL!r} or {_SLIDING!r}")
    if len(facts["ff_by_layer"]) != count:
        raise ModelError(f"config.json's `intermediate_size` has no {count} numbers, one for each layer")
    parts = facts["activation_sparsity_pattern"]
    if parts is None:
        parts = [0.95] * 10 + [0.0] * (count - 10) if count > 10 else [0.0] * count
    good = isinstance(parts, list) and all(type(part) in (int, float) and 0 <= part <= 1 for part in parts)
    if not good or len(parts) != count:
        raise ModelError(f"config.json's `activation_sparsity_pattern` is no list of {count} numbers from 0 to 1")
    for key in ("hidden_size_per_layer_input", "vocab_size_per_layer_input", "num_kv_shared_layers"):
        value = facts[key]
        if not isinstance(value, int) or isinstance(value, bool) or value < (key == "hidden_size_per_layer_input"):
            raise ModelError(f"config.json's `{key}` is {value!r}; a whole number would be right")
    if facts["vocab_size_per_layer_input"] > facts["vocab_size"]:
        raise ModelError("config.json's `vocab_size_per_layer_input` is more than its `vocab_size`")
    return {
        "windowed": [kind == _SLIDING for kind in kinds],
        "sparsity": [sparsity_scale(part) for part in parts],
        "sizes": {"own_vocab": facts["vocab_size_per_layer_input"]},
    }


def _notes(facts: Facts) -> Iterator[str]:
    count, shared = facts["num_hidden_layers"], facts["num_kv_shared_layers"]
    if max(count - _OWN, 0) != shared:
        yield (
            f"config.json's `num_kv_shared_layers` is {shared} of {count} layers; llama.cpp's gemma3n computes keys "
            f"and values in the first {_OWN} layers, whatever a file says"
        )


def _sizes(sizes: Sizes) -> Sizes:
    return {
        "per_layers": whole(sizes["layers"]) * whole(sizes["per_layer"]),
        "others": whole(sizes["altup"]) - 1,
        "coefficients": whole(sizes["altup"]) ** 2,
        "rank": 64,
    }


def _shares(sizes: Sizes, layer: int) -> bool:
    return layer >= _OWN


def _is_sparse(sizes: Sizes, layer: int) -> bool:
    return layer < _SPARSE


def _altup(name: str, source: str) -> TensorLine:
    return TensorLine(name, "embd embd others", " ".join(f"{source}.{index}.weight" for index in range(3)))


GEMMA3N = Architecture(
    "gemma3n",
    (
        TensorLine("token_embd.weight", "embd vocab", "embed_tokens.weight"),
        _altup("altup_proj.weight", "altup_projections"),
        _altup("altup_unembd_proj.weight", "altup_unembed_projections"),
        TensorLine(
            *("per_layer_token_embd.weight", "per_layers vocab", "embed_tokens_per_layer.weight"),
            cut=("", "own_vocab"),
            change="padded",
        ),
        TensorLine("per_layer_model_proj.weight", "embd per_layers", "per_layer_model_projection.weight"),
        TensorLine("per_layer_proj_norm.weight", "per_layer", "per_layer_projection_norm.weight"),
        TensorLine("output_norm.weight", "embd", "norm.weight"),
        TensorLine("output.weight", "embd vocab", "/lm_head.weight", optional=True),
    ),
    (
        ATTN_NORM,
        *QKV,
        *QK_NORM,
        ATTN_OUTPUT,
        POST_ATTENTION_NORM,
        TensorLine("ffn_norm.weight", "embd", "pre_feedforward_layernorm.weight"),
        *FFN,
        POST_FFN_NORM,
        TensorLine("inp_gate.weight", "embd per_layer", "per_layer_input_gate.weight"),
        TensorLine("proj.weight", "per_layer embd", "per_layer_projection.weight"),
        TensorLine("post_norm.weight", "embd", "post_per_layer_input_norm.weight"),
        TensorLine("altup_correct_coef.weight", "altup altup", "altup.correction_coefs.weight", f32=True),
        TensorLine("altup_correct_scale.weight", "embd", "altup.correct_output_scale"),
        TensorLine("altup_predict_coef.weight", "altup coefficients", "altup.prediction_coefs.weight", f32=True),
        TensorLine("altup_router.weight", "embd altup", "altup.modality_router.weight"),
        TensorLine("altup_router_norm.weight", "embd", "altup.router_norm.weight"),
        TensorLine("laurel_l.weight", "embd rank", "laurel.linear_left.weight"),
        TensorLine("laurel_r.weight", "rank embd", "laurel.linear_right.weight"),
        TensorLine("laurel_post_norm.weight", "embd", "laurel.post_laurel_norm.weight"),
    ),
    (
        ModelClass(
            "Gemma3nForConditionalGeneration",
            {
                "rms_norm_eps": 1e-6,
                "rope_theta": 1_000_000.0,
                "rope_local_base_freq": 10000.0,
                "tie_word_embeddings": True,
                "vocab_size": 262400,
                "vocab_size_per_layer_input": 262144,
                "hidden_size": 2048,
                "hidden_size_per_layer_input": 256,
                "num_hidden_layers": 35,
                "num_attention_heads": 8,
                "num_key_value_heads": 2,
                "head_dim": 256,
                "max_position_embeddings": 32768,
                "sliding_window": 512,
                "layer_types": None,
                "num_kv_shared_layers": 15,
                "activation_sparsity_pattern": None,
                "altup_active_idx": 0,
                "altup_num_inputs": 4,
                "final_logit_softcapping": 30.0,
            },
            scalings=("linear",),
            only=without(ONLY, "final_logit_softcapping")
            | {
                "hidden_activation": ("gelu_pytorch_tanh", None),
                "attention_bias": (False, None),
                "altup_num_inputs": (4, None),
                "altup_active_idx": (0, None),
                "altup_correct_scale": (True, None),
                "laurel_rank": (64, None),
                "hidden_size_per_layer_input": (256, None),
                "final_logit_softcapping": (30, None),
            },
            reading=_reading,
            facts=_layers,
            notes=_notes,
            vocabulary="sentencepiece",
            part="model.language_model.",
            layers="layers.",
            others=("model.vision_tower.", "model.embed_vision.", "model.audio_tower.", "model.embed_audio."),
        ),
    ),
    keys=(
        MetadataKey("feed_forward_length", "ff_by_layer", size="ff"),
        MetadataKey("final_logit_softcapping", "final_logit_softcapping", ValueType.FLOAT32),
        "attention.sliding_window",
        MetadataKey("altup.active_idx", "altup_active_idx"),
        MetadataKey("altup.num_inputs", "altup_num_inputs", size="altup"),
        MetadataKey("embedding_length_per_layer_input", "hidden_size_per_layer_input", size="per_layer"),
        MetadataKey("attention.shared_kv_layers", "num_kv_shared_layers", size="shared_kv"),
        MetadataKey("activation_sparsity_scale", lambda facts: facts["sparsity"], ValueType.FLOAT32),
        MetadataKey("attention.sliding_window_pattern", "windowed", ValueType.BOOL, size="windowed"),
    ),
    sizes=_sizes,
    needed=(*NEEDED, "attention.sliding_window"),
    since=8643,
    operations=(
        Predict(),
        Norm("attn_norm"),
        Laurel(),
        Aside(),
        Attend(qk_norm=True, value_norm=True, shared=_shares),
        Norm("post_attention_norm", of="change"),
        Join(),
        Add(),
        Scale(math.sqrt(1 / 2)),
        Norm("ffn_norm"),
        Feed("gelu", sparse=_is_sparse),
        Norm("post_ffw_norm", of="change"),
        Add(),
        Correct(),
        LayerInputs(),
        Norm("post_norm", of="change"),
        Add(to="others"),
    ),
    window_pattern=5,
    numbers={"attention.scale": 1.0, "final_logit_softcapping": 30.0},
    embedding_scale=True,
)
