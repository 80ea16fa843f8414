"""MiniMaxM2ForCausalLM, small: config.json and dtypes as released, in BF16 and in FP8."""

from convert_golden.classes.checkpoint import Checkpoint
from convert_golden.classes.fp8 import fp8
from convert_golden.classes.tokenizers import MINIMAX

CONFIG = {
    "architectures": ["MiniMaxM2ForCausalLM"],
    "attention_dropout": 0.0,
    "attn_type_list": [1, 1],
    "bos_token_id": 270,
    "dtype": "bfloat16",
    "eos_token_id": 272,
    "head_dim": 32,
    "hidden_act": "silu",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 32,
    "max_position_embeddings": 196608,
    "model_type": "minimax_m2",
    "num_attention_heads": 4,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "num_local_experts": 4,
    "output_router_logits": False,
    "num_mtp_modules": 3,
    "rms_norm_eps": 1e-06,
    "qk_norm_type": "per_layer",
    "rope_theta": 5000000,
    "scoring_func": "sigmoid",
    "shared_intermediate_size": 0,
    "rotary_dim": 16,
    "router_aux_loss_coef": 0.001,
    "router_jitter_noise": 0.0,
    "tie_word_embeddings": False,
    "transformers_version": "4.46.1",
    "use_cache": True,
    "use_qk_norm": True,
    "use_routing_bias": True,
    "vocab_size": 288,
}
TENSORS = """
lm_head.weight 288x64
model.embed_tokens.weight 288x64
model.layers.[0-1].block_sparse_moe.e_score_correction_bias 4 F32
model.layers.[0-1].block_sparse_moe.experts.[0-3].w1.weight 32x64
model.layers.[0-1].block_sparse_moe.experts.[0-3].w2.weight 64x32
model.layers.[0-1].block_sparse_moe.experts.[0-3].w3.weight 32x64
model.layers.[0-1].block_sparse_moe.gate.weight 4x64 F32
model.layers.[0-1].input_layernorm.weight 64
model.layers.[0-1].post_attention_layernorm.weight 64
model.layers.[0-1].self_attn.k_norm.weight 64
model.layers.[0-1].self_attn.k_proj.weight 64x64
model.layers.[0-1].self_attn.o_proj.weight 64x128
model.layers.[0-1].self_attn.q_norm.weight 128
model.layers.[0-1].self_attn.q_proj.weight 128x64
model.layers.[0-1].self_attn.v_proj.weight 64x64
model.norm.weight 64
"""
CHECKPOINT = Checkpoint(CONFIG, TENSORS, MINIMAX, "minimax-m2", made_by="transformers 5.24.0")
FP8 = Checkpoint(
    {
        **CONFIG,
        "quantization_config": {
            "activation_scheme": "dynamic",
            "fmt": "float8_e4m3fn",
            "modules_to_not_convert": ["gate", "e_score_correction_bias", "lm_head"],
            "quant_method": "fp8",
            "weight_block_size": [128, 128],
        },
    },
    fp8(TENSORS),
    MINIMAX,
    "minimax-m2",
    made_by="hand",
    variant="FP8",
)
