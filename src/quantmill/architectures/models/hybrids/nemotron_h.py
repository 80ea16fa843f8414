"""NVIDIA's Nemotron H: layers of Mamba 2, of attention and of a feed-forward part, or of experts."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from quantmill.architectures.architecture import NEEDED, Architecture, Facts, MetadataKey, ModelClass, TensorLine
from quantmill.architectures.conditions import Sizes, attending, dense, mixture, never, of
from quantmill.architectures.errors import ModelError
from quantmill.architectures.models.hybrids.mamba2 import (
    check_heads,
    check_mamba,
    mamba_keys,
    mamba_lines,
    mamba_sizes,
)
from quantmill.architectures.models.pieces import (
    ATTN_OUTPUT,
    ATTN_OUTPUT_BIAS,
    EXPERTS,
    FFN_BIAS,
    ONLY,
    QKV,
    changed,
    in_files,
    permuted,
)
from quantmill.architectures.operations import Add, Attend, Experts, Feed, Norm, Scan
from quantmill.gguf import ValueType

_CONTEXT = 1 << 20  # of a model whose attention has no positions, whatever config.json says
_LETTERS = {"mamba": "M", "linear_attention": "M", "attention": "*", "full_attention": "*", "moe": "E"}


def _fed(sizes: Sizes, layer: int) -> bool:
    return of("ff", sizes, layer) > 0


def _attends(sizes: Sizes, layer: int) -> bool:
    return attending(sizes, layer) and not _fed(sizes, layer)


def _mixes(sizes: Sizes, layer: int) -> bool:
    return _fed(sizes, layer) and mixture(sizes, layer)


def _feeds(sizes: Sizes, layer: int) -> bool:
    return _fed(sizes, layer) and dense(sizes, layer)


def _scanned(sizes: Sizes, layer: int) -> bool:
    return not _fed(sizes, layer) and not attending(sizes, layer)


def _experts(wanted: bool) -> Callable[[Facts], bool]:
    return lambda config: (config.get("num_experts_per_tok") is not None) == wanted


def _reading(stated: Facts) -> Mapping[str, Any]:
    """Layers in letters, however they are told."""
    kinds = stated.get("hybrid_override_pattern") or stated.get("layers_block_type")
    if not isinstance(kinds, list):
        return {}
    letters = "".join(_LETTERS.get(str(kind), "?") for kind in kinds)
    return {"hybrid_override_pattern": letters, "num_hidden_layers": len(kinds)}


def _patterned(facts: Facts) -> Mapping[str, Any]:
    """Widths and heads by the layer."""
    experts = "num_experts" in facts
    pattern, count = facts.get("hybrid_override_pattern"), facts["num_hidden_layers"]
    letters = "M*E" if experts else "M*-"
    if not isinstance(pattern, str) or len(pattern) != count or not set(letters).issuperset(pattern):
        raise ModelError(
            f"config.json's `hybrid_override_pattern` is {pattern!r}; a text of {count} letters of {letters!r} would "
            "be right, one for each layer"
        )
    check_mamba(facts, "conv_kernel", "ssm_state_size", "n_groups", "mamba_num_heads", "mamba_head_dim", "head_dim")
    inner = facts["mamba_num_heads"] * facts["mamba_head_dim"]
    check_heads(facts, inner, "mamba_num_heads", "mamba_head_dim", "n_groups")
    if facts["vocab_size"] % 8:
        raise ModelError(f"config.json's `vocab_size` is {facts['vocab_size']}; a multiple of 8 can be converted")
    if experts:
        check_mamba(facts, "moe_shared_expert_intermediate_size", "n_shared_experts")
    width = facts["moe_intermediate_size"] if experts else facts["intermediate_size"]
    return {
        "ff_by_layer": [width if letter == letters[-1] else 0 for letter in pattern],
        "kv_by_layer": [facts["num_key_value_heads"] if letter == "*" else 0 for letter in pattern],
        "inner": inner,
        "rope_columns": facts["hidden_size"] // facts["num_attention_heads"],
        "max_position_embeddings": _CONTEXT,
        "finetuned": False,
    }


_TOP = (
    TensorLine("token_embd.weight", "embd vocab", "backbone.embeddings.weight"),
    TensorLine("output_norm.weight", "embd", "backbone.norm_f.weight"),
    TensorLine("output.weight", "embd vocab", "lm_head.weight", optional=True),
)
_LAYER = (
    TensorLine("attn_norm.weight", "embd", "norm.weight"),
    *mamba_lines("mixer", _scanned),
    *(
        replace(line, source=line.source.replace("self_attn.", "mixer."), where=_attends)
        for line in (*permuted(QKV), ATTN_OUTPUT)
    ),
    *in_files([ATTN_OUTPUT_BIAS], where=_attends, optional=True),
)
_KEYS: tuple[str | MetadataKey, ...] = (
    MetadataKey("feed_forward_length", "ff_by_layer", size="ff"),
    MetadataKey("attention.head_count_kv", "kv_by_layer", size="kv_heads"),
    "vocab_size",
    MetadataKey("rope.dimension_count", "rope_columns", size="rotary"),
    *mamba_keys("conv_kernel", "inner", "ssm_state_size", "mamba_num_heads", "n_groups"),
    MetadataKey("rope.scaling.finetuned", "finetuned", ValueType.BOOL),
    MetadataKey("attention.key_length", "head_dim", size="head", behind=True),
    MetadataKey("attention.value_length", "head_dim", behind=True),
)
_NEEDED = (*(key for key in NEEDED if not key.endswith("epsilon")), "attention.layer_norm_epsilon")
_DENSE = ModelClass(
    "NemotronHForCausalLM",
    {
        "tie_word_embeddings": False,
        "rope_theta": None,
        "num_key_value_heads": 8,
        "max_position_embeddings": 4096,
        "layer_norm_epsilon": 1e-5,
    },
    spellings={"attention_head_dim": "head_dim"},
    when=_experts(wanted=False),
    scalings=(),
    only=ONLY
    | {
        "mlp_hidden_act": ("relu2", None),
        "mamba_hidden_act": ("silu", None),
        "attention_bias": (False, None),
        "mlp_bias": (False, None),
        "use_bias": (False, None),
        "mamba_proj_bias": (False, None),
        "use_conv_bias": (True, None),
        "time_step_limit": ([0.0, float("inf")], None),
        "sliding_window": (None,),
        "rope_theta": (None, 10000.0),
        "num_nextn_predict_layers": (0, None),
    },
    reading=_reading,
    facts=_patterned,
    layers="backbone.layers.",
)

NEMOTRON_H = Architecture(
    "nemotron_h",
    _TOP,
    (
        *_LAYER,
        TensorLine("ffn_up.weight", "embd ff", "mixer.up_proj.weight", where=_fed),
        TensorLine("ffn_down.weight", "ff embd", "mixer.down_proj.weight", where=_fed),
        *in_files(FFN_BIAS[1:], where=_fed, optional=True),
    ),
    (_DENSE,),
    keys=_KEYS,
    sizes=mamba_sizes,
    needed=_NEEDED,
    since=11312,
    scaled=("ssm_", "ffn_"),
    operations=(
        Norm("attn_norm"),
        Attend(turns=never, where=_attends),
        Scan(where=_scanned),
        Feed("relu_squared", gated=False, where=_fed),
        Add(),
    ),
    eps="attention.layer_norm_epsilon",
)
NEMOTRON_H_MOE = Architecture(
    "nemotron_h_moe",
    _TOP,
    (
        *_LAYER,
        TensorLine("ffn_up.weight", "embd ff", where=_feeds),
        TensorLine("ffn_down.weight", "ff embd", where=_feeds),
        *in_files(FFN_BIAS[1:], where=_feeds, optional=True),
        TensorLine("ffn_gate_inp.weight", EXPERTS[0].dims, "mixer.gate.weight", where=_mixes),
        TensorLine("exp_probs_b.bias", "experts", "mixer.gate.e_score_correction_bias", where=_mixes),
        TensorLine("ffn_up_exps.weight", EXPERTS[2].dims, "mixer.experts.*.up_proj.weight", where=_mixes),
        TensorLine("ffn_down_exps.weight", EXPERTS[3].dims, "mixer.experts.*.down_proj.weight", where=_mixes),
        *changed(
            (
                TensorLine("ffn_up_shexp.weight", "embd sff", "mixer.shared_experts.up_proj.weight"),
                TensorLine("ffn_down_shexp.weight", "sff embd", "mixer.shared_experts.down_proj.weight"),
            ),
            where=_mixes,
        ),
    ),
    (
        replace(
            _DENSE,
            defaults={**_DENSE.defaults, "intermediate_size": None},
            spellings={**_DENSE.spellings, "n_routed_experts": "num_experts"},
            when=_experts(wanted=True),
            mixture=True,
            only={**_DENSE.only, "moe_latent_size": (None,)},
        ),
    ),
    keys=(
        *_KEYS,
        "expert_feed_forward_length",
        MetadataKey("expert_shared_feed_forward_length", "moe_shared_expert_intermediate_size", size="sff"),
        MetadataKey("expert_shared_count", "n_shared_experts"),
        MetadataKey("expert_weights_norm", "norm_topk_prob", ValueType.BOOL),
        MetadataKey("expert_weights_scale", "routed_scaling_factor", ValueType.FLOAT32),
    ),
    sizes=mamba_sizes,
    needed=(*_NEEDED, "expert_count", "expert_used_count"),
    since=11312,
    eps="attention.layer_norm_epsilon",
    experts="maybe",
    most_experts=1024,
    scaled=("ssm_", "ffn_"),
    operations=(
        Norm("attn_norm"),
        Attend(turns=never, where=_attends),
        Scan(where=_scanned),
        Feed("relu_squared", gated=False, where=_feeds),
        Experts("relu_squared", scoring="sigmoid", normalized="stated", gated=False, where=_mixes),
        Add(),
    ),
)
