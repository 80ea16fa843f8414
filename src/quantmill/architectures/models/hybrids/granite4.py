"""What IBM's Granite 4 has in common, of Mamba 2 or without it."""

from collections.abc import Callable, Mapping
from typing import Any

from quantmill.architectures.architecture import Facts, MetadataKey, ModelClass, TensorLine
from quantmill.architectures.conditions import Sizes, of
from quantmill.architectures.errors import ModelError
from quantmill.architectures.models.hybrids.mamba2 import check_heads, check_mamba, mamba_keys
from quantmill.architectures.models.pieces import COMMON, SILU, check_whole_heads, positive, without
from quantmill.gguf import ValueType

SCALES = ("attention_multiplier", "embedding_multiplier", "residual_multiplier", "logits_scaling")
SCALE_KEYS = (
    MetadataKey("attention.scale", "attention_multiplier", ValueType.FLOAT32),
    MetadataKey("embedding_scale", "embedding_multiplier", ValueType.FLOAT32),
    MetadataKey("residual_scale", "residual_multiplier", ValueType.FLOAT32),
    MetadataKey("logit_scale", "logits_scaling", ValueType.FLOAT32),
)
_CONTEXT = 1 << 20  # of a model whose attention has no positions, whatever config.json says


def turned(sizes: Sizes, layer: int) -> bool:
    """Whether queries and keys turn, in all layers or in none."""
    return of("turned", sizes, layer) > 0


def hybrid(mixture: bool) -> Callable[[Facts], bool]:
    """Whether config.json's model has Mamba 2, and is a mixture or not."""

    def has(config: Facts) -> bool:
        kinds = config.get("layer_types")
        return (not isinstance(kinds, list) or "mamba" in kinds) and bool(config.get("num_local_experts")) == mixture

    return has


def without_mamba(config: Facts) -> bool:
    """Whether config.json's model has attention in all of its layers, and no experts."""
    kinds = config.get("layer_types")
    return isinstance(kinds, list) and "mamba" not in kinds and not config.get("num_local_experts")


def _reading(stated: Facts) -> Mapping[str, Any]:
    return {
        "moe_intermediate_size": stated.get("intermediate_size"),
        "granite_used": stated.get("num_experts_per_tok", 8),
    }


def granite_facts(facts: Facts) -> Mapping[str, Any]:
    """Layers with attention, and Mamba 2's sizes."""
    check_whole_heads(facts)
    positive(facts, *SCALES)
    check_mamba(
        facts,
        *("mamba_d_conv", "mamba_d_state", "mamba_expand", "mamba_n_groups", "mamba_n_heads"),
        "shared_intermediate_size",
    )
    kinds, count = facts["layer_types"], facts["num_hidden_layers"]
    if not isinstance(kinds, list) or len(kinds) != count or not {"mamba", "attention"}.issuperset(map(str, kinds)):
        raise ModelError(f"config.json's `layer_types` is no list of {count} times 'mamba' or 'attention'")
    inner = facts["mamba_expand"] * facts["hidden_size"]
    check_heads(facts, inner, "mamba_n_heads", "mamba_d_head", "mamba_n_groups")
    hybrid = "mamba" in kinds
    position = facts["position_embedding_type"]
    if position != ("nope" if hybrid else "rope"):
        right = "'nope' with layers of Mamba 2" if hybrid else "'rope' without them"
        raise ModelError(f"config.json's `position_embedding_type` is {position!r}; llama.cpp computes {right}")
    shared, width = facts["shared_intermediate_size"], facts["intermediate_size"]
    if not facts.get("num_experts") and shared != width:
        raise ModelError(
            f"config.json's `shared_intermediate_size` is {shared} and `intermediate_size` {width}; "
            "without experts the same number would be right"
        )
    if not facts.get("num_experts") and facts["granite_used"] != 0:
        raise ModelError(
            f"config.json's `num_experts_per_tok` is {facts['granite_used']!r}; 0 would be right without experts"
        )
    if hybrid and facts["vocab_size"] % 8:
        raise ModelError(f"config.json's `vocab_size` is {facts['vocab_size']}; a multiple of 8 can be converted")
    heads = facts["num_key_value_heads"]
    return {
        "head_dim": None,
        "granite_kv": [heads if kind == "attention" else 0 for kind in kinds],
        "granite_experts": facts.get("num_experts", 0),
        "granite_rope": not hybrid,
        "granite_shared": shared,
        "granite_conv": facts["mamba_d_conv"],
        "granite_states": facts["mamba_d_state"],
        "granite_groups": facts["mamba_n_groups"],
        "granite_inner": inner,
        "granite_heads": facts["mamba_n_heads"],
        **({"max_position_embeddings": _CONTEXT} if hybrid else {}),
    }


# What the class writes, of a model without Mamba 2 too.
HYBRID_KEYS = (
    MetadataKey("expert_shared_feed_forward_length", "granite_shared", size="sff"),
    *mamba_keys("granite_conv", "granite_inner", "granite_states", "granite_heads", "granite_groups"),
    MetadataKey("rope.scaling.finetuned", "granite_rope", ValueType.BOOL, size="turned", absent=1),
)
BASE_KEYS = (
    MetadataKey("attention.head_count_kv", "granite_kv num_key_value_heads", size="kv_heads"),
    MetadataKey("expert_count", "granite_experts", size="experts"),
    MetadataKey("expert_used_count", "granite_used", size="experts_used"),
)


def halves(names: tuple[str, str], ff: str) -> tuple[TensorLine, TensorLine]:
    """Gate and up, which a checkpoint has as one matrix."""
    source = "shared_mlp.input_linear.weight"
    return (
        TensorLine(names[0], f"embd {ff}", source, cut=("", f"{ff} {ff}")),
        TensorLine(names[1], f"embd {ff}", source, cut=(ff, f"{ff} {ff}")),
    )


DENSE_FFN = (
    *halves(("ffn_gate.weight", "ffn_up.weight"), "ff"),
    TensorLine("ffn_down.weight", "ff embd", "shared_mlp.output_linear.weight"),
)
CLASS = ModelClass(
    "GraniteMoeHybridForCausalLM",
    {
        **COMMON,
        "num_key_value_heads": None,
        "max_position_embeddings": 2048,
        **dict.fromkeys(SCALES, 1.0),
        "shared_intermediate_size": 1024,
        "position_embedding_type": "nope",
        "layer_types": None,
        "mamba_n_heads": 128,
        "mamba_n_groups": 1,
        "mamba_d_state": 256,
        "mamba_d_head": "auto",
        "mamba_d_conv": 4,
        "mamba_expand": 2,
    },
    when=hybrid(mixture=False),
    reading=_reading,
    only=without(SILU, *SCALES)
    | {
        "attention_bias": (False, None),
        "mamba_proj_bias": (False, None),
        "mamba_expand": (2, None),
        "mamba_conv_bias": (True, None),
        "time_step_limit": (None,),
    },
    facts=granite_facts,
)
