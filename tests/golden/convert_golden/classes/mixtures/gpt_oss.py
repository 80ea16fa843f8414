"""GptOssForCausalLM, small."""

from convert_golden.classes.checkpoint import Checkpoint
from convert_golden.classes.tokenizers import GPT_OSS

CONFIG = {
    "architectures": ["GptOssForCausalLM"],
    "attention_bias": True,
    "attention_dropout": 0.0,
    "dtype": "bfloat16",
    "eos_token_id": 271,
    "experts_per_token": 2,
    "head_dim": 32,
    "hidden_act": "silu",
    "hidden_size": 64,
    "initial_context_length": 4096,
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "layer_types": ["sliding_attention", "full_attention"],
    "max_position_embeddings": 131072,
    "model_type": "gpt_oss",
    "num_attention_heads": 4,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "num_local_experts": 4,
    "output_router_logits": False,
    "pad_token_id": 270,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "factor": 32.0,
        "original_max_position_embeddings": 4096,
        "rope_type": "yarn",
        "truncate": False,
    },
    "rope_theta": 150000.0,
    "router_aux_loss_coef": 0.9,
    "sliding_window": 128,
    "swiglu_limit": 7.0,
    "tie_word_embeddings": False,
    "transformers_version": "4.57.6",
    "use_cache": True,
    "vocab_size": 288,
}
TENSORS = """
lm_head.weight 288x64
model.embed_tokens.weight 288x64
model.layers.[0-1].input_layernorm.weight 64
model.layers.[0-1].mlp.experts.down_proj 4x96x64
model.layers.[0-1].mlp.experts.down_proj_bias 4x64
model.layers.[0-1].mlp.experts.gate_up_proj 4x64x192
model.layers.[0-1].mlp.experts.gate_up_proj_bias 4x192
model.layers.[0-1].mlp.router.bias 4
model.layers.[0-1].mlp.router.weight 4x64
model.layers.[0-1].post_attention_layernorm.weight 64
model.layers.[0-1].self_attn.k_proj.bias 64
model.layers.[0-1].self_attn.k_proj.weight 64x64
model.layers.[0-1].self_attn.o_proj.bias 64
model.layers.[0-1].self_attn.o_proj.weight 64x128
model.layers.[0-1].self_attn.q_proj.bias 128
model.layers.[0-1].self_attn.q_proj.weight 128x64
model.layers.[0-1].self_attn.sinks 4
model.layers.[0-1].self_attn.v_proj.bias 64
model.layers.[0-1].self_attn.v_proj.weight 64x64
model.norm.weight 64
"""
CHECKPOINT = Checkpoint(CONFIG, TENSORS, GPT_OSS, "gpt-4o")
_CODES = {
    "model.layers.[0-1].mlp.experts.down_proj 4x96x64": "down_proj_blocks 4x64x3x16 U8,down_proj_scales 4x64x3 U8",
    "model.layers.[0-1].mlp.experts.gate_up_proj 4x64x192": (
        "gate_up_proj_blocks 4x192x2x16 U8,gate_up_proj_scales 4x192x2 U8"
    ),
}
_LINES = [
    f"model.layers.[0-1].mlp.experts.{part}" if line in _CODES else part
    for line in TENSORS.strip().splitlines()
    for part in _CODES.get(line, line).split(",")
]
MXFP4 = Checkpoint(
    {
        **CONFIG,
        "quantization_config": {
            "modules_to_not_convert": [
                "model.layers.*.self_attn",
                "model.layers.*.mlp.router",
                "model.embed_tokens",
                "lm_head",
            ],
            "quant_method": "mxfp4",
        },
    },
    "\n".join(_LINES),
    GPT_OSS,
    "gpt-4o",
    made_by="hand",
    variant="MXFP4",
)
