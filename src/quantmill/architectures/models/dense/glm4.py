"""GLM 4: a part of each head turns, and norms stand behind attention and feed-forward part too."""

from quantmill.architectures.architecture import Architecture, Facts, MetadataKey, ModelClass, TensorLine
from quantmill.architectures.conditions import Sizes, whole
from quantmill.architectures.errors import ModelError
from quantmill.architectures.models.pieces import (
    ATTN_NORM,
    ATTN_OUTPUT,
    COMMON,
    FFN,
    FFN_NORM,
    QKV,
    QKV_BIAS,
    SILU,
    TOP,
    asked,
    without,
)
from quantmill.architectures.operations import Add, Attend, Feed, Norm


def rotary(facts: Facts) -> int:
    """Columns of a head that turn."""
    part, head = facts["partial_rotary_factor"], facts["head_dim"]
    if not isinstance(part, int | float) or isinstance(part, bool) or not 0 < part <= 1:
        raise ModelError(f"config.json's `partial_rotary_factor` is {part!r}; a number of at most 1 would be right")
    return int(head * part)


def _fused(sizes: Sizes) -> Sizes:
    return {"gate_up": 2 * whole(sizes["ff"])}


GLM4 = Architecture(
    "glm4",
    TOP,
    (
        ATTN_NORM,
        *QKV,
        *asked(QKV_BIAS, "attention_bias", optional=True),
        ATTN_OUTPUT,
        TensorLine("post_attention_norm.weight", "embd", "post_self_attn_layernorm.weight"),
        FFN_NORM,
        TensorLine("ffn_up.weight", "embd gate_up", "mlp.gate_up_proj.weight"),
        FFN[2],
        TensorLine("post_ffw_norm.weight", "embd", "post_mlp_layernorm.weight"),
    ),
    (
        ModelClass(
            "Glm4ForCausalLM",
            {
                **COMMON,
                "rms_norm_eps": 1.5625e-07,
                "num_key_value_heads": 2,
                "max_position_embeddings": 131072,
                "head_dim": 128,
                "partial_rotary_factor": 0.5,
                "attention_bias": True,
            },
            only=without(SILU, "partial_rotary_factor"),
            vocabulary="glm4",
        ),
    ),
    keys=(MetadataKey("rope.dimension_count", rotary, size="rotary"),),
    sizes=_fused,
    image_places=True,
    since=5200,
    operations=(
        Norm("attn_norm"),
        Attend("norm"),
        Norm("post_attention_norm", of="change"),
        Add(),
        Norm("ffn_norm"),
        Feed(fused=True),
        Norm("post_ffw_norm", of="change"),
        Add(),
    ),
)
