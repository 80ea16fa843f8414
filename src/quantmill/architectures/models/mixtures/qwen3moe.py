"""Qwen 3's mixtures."""

from quantmill.architectures.architecture import NEEDED, Architecture, ModelClass
from quantmill.architectures.models.dense.qwen3 import ATTENTION
from quantmill.architectures.models.pieces import COMMON, EXPERTS, FFN_NORM, MIXED, OUTPUT, SILU, TOP, attended, changed
from quantmill.architectures.operations import Attend

QWEN3MOE = Architecture(
    "qwen3moe",
    (*TOP[:-1], *changed([OUTPUT], optional=False)),
    (*ATTENTION, FFN_NORM, *EXPERTS),
    (
        ModelClass(
            "Qwen3MoeForCausalLM",
            {
                **COMMON,
                "num_key_value_heads": 4,
                "max_position_embeddings": 32768,
                "num_experts": 128,
                "num_experts_per_tok": 8,
                "moe_intermediate_size": 768,
                "decoder_sparse_step": 1,
                "mlp_only_layers": (),
            },
            mixture=True,
            only=SILU | {"norm_topk_prob": (True,)},
            absent={"norm_topk_prob": False},
            windows="asked",
        ),
    ),
    keys=("expert_feed_forward_length",),
    needed=(*NEEDED, "expert_count", "expert_used_count"),
    experts="always",
    scaled=("ffn_",),
    operations=(*attended(Attend(qk_norm=True)), *MIXED),
)
