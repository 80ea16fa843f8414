"""Llama 4, of text, and of text and images: attention in chunks, and layers whose queries do not turn."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from quantmill.architectures.architecture import NEEDED, Architecture, Facts, MetadataKey, ModelClass, TensorLine
from quantmill.architectures.conditions import Sizes, whole
from quantmill.architectures.errors import ModelError
from quantmill.architectures.models.dense.llama import rope_factors
from quantmill.architectures.models.pieces import (
    ATTN_NORM,
    ATTN_OUTPUT,
    EXPERTS_ALONE,
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

_STEP = 4  # every fourth layer sees everything, and its queries do not turn
_CHUNKED, _FULL = "chunked_attention", "full_attention"
_BOTH = "feed_forward.experts.gate_up_proj"


def mixed(sizes: Sizes, layer: int) -> bool:
    """One of the layers that are mixtures."""
    return (layer + 1) % whole(sizes["step"]) == 0


def _turns(sizes: Sizes, layer: int) -> bool:
    return (layer + 1) % _STEP != 0


def _dense(sizes: Sizes, layer: int) -> bool:
    return not mixed(sizes, layer)


def _checked(facts: Facts) -> Mapping[str, Any]:
    """A dense layer's width has a name of its own; which layers are what, a file says by one number or not at all."""
    layers, step, width = facts["num_hidden_layers"], facts["interleave_moe_layer_step"], facts["intermediate_size_mlp"]
    for name, value in (("interleave_moe_layer_step", step), ("intermediate_size_mlp", width)):
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**31:
            raise ModelError(f"config.json's `{name}` is {value!r}; a positive whole number would be right")
    every = range(layers)
    kinds = [_FULL if (layer + 1) % _STEP == 0 else _CHUNKED for layer in every]
    rights = {
        "moe_layers": [layer for layer in every if (layer + 1) % step == 0],
        "no_rope_layers": [int((layer + 1) % _STEP != 0) for layer in every],
        "layer_types": kinds,
    }
    for name, right in rights.items():
        if facts.get(name) not in (None, [], right):
            raise ModelError(
                f"config.json's `{name}` is not every {step if name == 'moe_layers' else _STEP}th layer's; llama4 in a "
                "GGUF file has that pattern and no other"
            )
    if facts["use_qk_norm"] != (facts["num_experts"] != 128):
        raise ModelError(
            f"config.json's `use_qk_norm` is {facts['use_qk_norm']!r} beside {facts['num_experts']} experts; "
            "llama.cpp's llama4 norms queries and keys but for 128 experts"
        )
    return {"intermediate_size": width, "may_be_sudden": True}


_TEXT = ModelClass(
    "Llama4ForCausalLM",
    {
        "rms_norm_eps": 1e-5,
        "rope_theta": 500_000.0,
        "tie_word_embeddings": False,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131072,
        "head_dim": 128,
        "intermediate_size_mlp": 16384,
        "num_experts": 16,
        "num_experts_per_tok": 1,
        "interleave_moe_layer_step": 1,
        "use_qk_norm": True,
    },
    spellings=EXPERTS_ALONE,
    mixture=True,
    packings=(),
    scalings=("linear", "yarn", "llama3"),
    only=SILU
    | {
        "attention_bias": (False, None),
        "attention_chunk_size": (8192,),
        "attn_temperature_tuning": (True, 4, None),
        "floor_scale": (8192, None),
        "attn_scale": (0.1, None),
        "for_llm_compressor": (False, None),
    },
    facts=_checked,
)

LLAMA4 = Architecture(
    "llama4",
    (*TOP, TensorLine("rope_freqs.weight", "pairs", asked=rope_factors, optional=True)),
    (
        ATTN_NORM,
        *QKV,
        ATTN_OUTPUT,
        FFN_NORM,
        *changed(renamed(FFN, "mlp.", "feed_forward."), where=_dense),
        TensorLine("ffn_gate_inp.weight", "embd experts", "feed_forward.router.weight", where=mixed),
        TensorLine("ffn_gate_exps.weight", "embd eff experts", _BOTH, where=mixed, change="turned first half"),
        TensorLine("ffn_up_exps.weight", "embd eff experts", _BOTH, where=mixed, change="turned second half"),
        TensorLine(
            "ffn_down_exps.weight", "eff embd experts", "feed_forward.experts.down_proj", where=mixed, change="turned"
        ),
        *changed(renamed(SHARED, "mlp.", "feed_forward."), where=mixed),
    ),
    (
        _TEXT,
        replace(
            _TEXT,
            name="Llama4ForConditionalGeneration",
            part="language_model.",
            others=("vision_model.", "multi_modal_projector."),
        ),
    ),
    keys=(
        "vocab_size",
        "rope.dimension_count",
        MetadataKey("interleave_moe_layer_step", "interleave_moe_layer_step", size="step"),
        "expert_feed_forward_length",
    ),
    sizes=lambda sizes: {"sff": sizes["eff"]},
    needed=(*NEEDED, "expert_count", "expert_used_count", "expert_feed_forward_length", "interleave_moe_layer_step"),
    since=11312,
    operations=(
        *attended(Attend("norm", turns=_turns, chunked=True, tempered=True)),
        Norm("ffn_norm"),
        Feed(where=_dense),
        Experts(scoring="sigmoid_chosen", normalized=False, before=True, where=mixed),
        Add(),
    ),
    window_pattern=_STEP,
    window_base=0,
    chunk=8192,
    experts="always",
)
