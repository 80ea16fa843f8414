"""Qwen 2 and 2.5."""

from quantmill.architectures.architecture import Architecture, ModelClass
from quantmill.architectures.models.pieces import (
    ATTN_NORM,
    ATTN_OUTPUT,
    COMMON,
    FED,
    FFN,
    FFN_NORM,
    QKV,
    QKV_BIAS,
    SILU,
    TOP,
    attended,
)
from quantmill.architectures.operations import Attend

QWEN2 = Architecture(
    "qwen2",
    TOP,
    (ATTN_NORM, *QKV, *QKV_BIAS, ATTN_OUTPUT, FFN_NORM, *FFN),
    (
        ModelClass(
            "Qwen2ForCausalLM",
            {**COMMON, "num_key_value_heads": 32, "max_position_embeddings": 32768},
            only=SILU,
            windows="asked",
        ),
    ),
    operations=(*attended(Attend()), *FED),
    whole_heads=True,
)
