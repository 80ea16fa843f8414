"""ByteDance's Seed-OSS."""

from quantmill.architectures.architecture import Architecture, ModelClass
from quantmill.architectures.models.pieces import (
    ATTN_NORM,
    ATTN_OUTPUT,
    COMMON,
    FFN,
    POST_ATTENTION_NORM,
    QKV,
    QKV_BIAS,
    SILU,
    TOP,
    asked,
    attended,
)
from quantmill.architectures.operations import Add, Attend, Feed, Norm

SEED_OSS = Architecture(
    "seed_oss",
    TOP,
    (ATTN_NORM, *QKV, *asked(QKV_BIAS, "attention_bias", optional=True), ATTN_OUTPUT, POST_ATTENTION_NORM, *FFN),
    (
        ModelClass(
            "SeedOssForCausalLM",
            {
                **COMMON,
                "num_key_value_heads": 8,
                "max_position_embeddings": 524288,
                "head_dim": 128,
                "attention_bias": True,
            },
            only=SILU | {"attention_out_bias": (False, None), "mlp_bias": (False, None)},
        ),
    ),
    since=8560,
    operations=(*attended(Attend()), Norm("post_attention_norm"), Feed(), Add()),
)
