"""Qwen 3."""

from quantmill.architectures.architecture import Architecture, ModelClass
from quantmill.architectures.models.pieces import (
    ATTN_NORM,
    ATTN_OUTPUT,
    ATTN_OUTPUT_BIAS,
    COMMON,
    FED,
    FFN,
    FFN_NORM,
    QK_NORM,
    QKV,
    QKV_BIAS,
    SILU,
    TOP,
    asked,
    attended,
)
from quantmill.architectures.operations import Attend

# A layer's attention, of Qwen 3's mixtures too. llama.cpp has no place for the biases that config.json may ask for.
ATTENTION = (
    ATTN_NORM,
    *QKV,
    *asked(QKV_BIAS, "attention_bias", placed=False),
    *QK_NORM,
    ATTN_OUTPUT,
    *asked([ATTN_OUTPUT_BIAS], "attention_bias", placed=False),
)

QWEN3 = Architecture(
    "qwen3",
    TOP,
    (*ATTENTION, FFN_NORM, *FFN),
    (
        ModelClass(
            "Qwen3ForCausalLM",
            {**COMMON, "num_key_value_heads": 32, "max_position_embeddings": 32768, "head_dim": 128},
            only=SILU,
            windows="asked",
        ),
    ),
    scaled=("ffn_",),
    operations=(*attended(Attend(qk_norm=True)), *FED),
)
