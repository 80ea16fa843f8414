"""Llama, with Mistral's and SmolLM's models; GGUF files of it may be mixtures (Mixtral)."""

from quantmill.architectures.architecture import Architecture, Facts, ModelClass, TensorLine
from quantmill.architectures.conditions import dense, mixture
from quantmill.architectures.models.pieces import (
    ATTN_NORM,
    ATTN_OUTPUT,
    ATTN_OUTPUT_BIAS,
    COMMON,
    EXPERTS,
    EXPERTS_ALONE,
    FFN,
    FFN_BIAS,
    FFN_NORM,
    QKV,
    QKV_BIAS,
    SILU,
    TOP,
    W_EXPERTS,
    asked,
    attended,
    changed,
    in_dense,
    permuted,
)
from quantmill.architectures.operations import Add, Attend, Experts, Feed, Norm

_SCALINGS = ("linear", "yarn", "llama3")


def rope_factors(facts: Facts) -> bool:
    """Whether rope is scaled as llama 3's, by a tensor of one factor for each pair of columns of a head."""
    return bool(facts.get("rope_scaling")) and facts["rope_scaling"]["type"] == "llama3"


LLAMA = Architecture(
    "llama",
    (*TOP, TensorLine("rope_freqs.weight", "pairs", asked=rope_factors, optional=True)),
    (
        ATTN_NORM,
        *permuted(QKV),
        *asked(permuted(QKV_BIAS), "attention_bias", optional=True),
        ATTN_OUTPUT,
        *asked([ATTN_OUTPUT_BIAS], "attention_bias", optional=True),
        FFN_NORM,
        *in_dense(FFN),
        *asked(in_dense(FFN_BIAS), "mlp_bias", optional=True),
        *changed(EXPERTS[:1], where=mixture),
        *changed(EXPERTS[1:2], where=mixture, spared=True),
        *changed(EXPERTS[2:], where=mixture),
    ),
    (
        ModelClass(
            "LlamaForCausalLM",
            {**COMMON, "num_key_value_heads": None, "max_position_embeddings": 2048, "head_dim": None},
            scalings=_SCALINGS,
            only=SILU,
            vocabulary="llama",
        ),
        ModelClass(
            "MistralForCausalLM",
            {**COMMON, "num_key_value_heads": 8, "max_position_embeddings": 131072, "head_dim": None},
            ignored=("attention_bias", "mlp_bias"),
            scalings=_SCALINGS,
            only=SILU,
            windows="always",
            vocabulary="llama",
        ),
        ModelClass(
            "MixtralForCausalLM",
            {
                **COMMON,
                "rms_norm_eps": 1e-5,
                "rope_theta": 1_000_000.0,
                "num_key_value_heads": 8,
                "max_position_embeddings": 131072,
                "sliding_window": None,
                "num_experts": 8,
                "num_experts_per_tok": 2,
            },
            spellings=EXPERTS_ALONE,
            ignored=("attention_bias", "mlp_bias"),
            mixture=True,
            since=11312,
            scalings=_SCALINGS,
            only=SILU,
            windows="always",
            vocabulary="llama",
            tensors=changed(W_EXPERTS, where=mixture),
        ),
    ),
    keys=("vocab_size", "rope.dimension_count"),
    experts="maybe",
    scaled=("ffn_",),
    operations=(
        *attended(Attend(rope="norm")),
        Norm("ffn_norm"),
        Feed(where=dense),
        Experts(where=mixture),
        Add(),
    ),
)
