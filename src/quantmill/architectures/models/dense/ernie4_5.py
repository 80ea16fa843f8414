"""Baidu's ERNIE 4.5."""

from quantmill.architectures.architecture import Architecture, ModelClass
from quantmill.architectures.models.pieces import (
    ATTN_NORM,
    ATTN_OUTPUT,
    FED,
    FFN,
    FFN_NORM,
    QKV,
    SILU,
    TOP,
    attended,
    in_dense,
)
from quantmill.architectures.operations import Attend

ERNIE4_5 = Architecture(
    "ernie4_5",
    TOP,
    (ATTN_NORM, *QKV, ATTN_OUTPUT, FFN_NORM, *in_dense(FFN)),
    (
        ModelClass(
            "Ernie4_5ForCausalLM",
            {
                "rms_norm_eps": 1e-5,
                "rope_theta": 500_000.0,
                "tie_word_embeddings": True,
                "num_key_value_heads": 2,
                "max_position_embeddings": 131072,
                "head_dim": 128,
            },
            only=SILU | {"use_bias": (False, None)},
            vocabulary="ernie",
        ),
    ),
    since=8560,
    operations=(*attended(Attend("norm")), *FED),
)
