"""Ernie4_5_MoeForCausalLM, small."""

from convert_golden.classes.checkpoint import Checkpoint
from convert_golden.classes.tokenizers import ERNIE

CONFIG = {
    "architectures": ["Ernie4_5_MoeForCausalLM"],
    "bos_token_id": 1,
    "dtype": "bfloat16",
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 128,
    "max_position_embeddings": 131072,
    "model_type": "ernie4_5_moe",
    "moe_intermediate_size": 32,
    "moe_k": 2,
    "moe_layer_end_index": 2,
    "moe_layer_interval": 1,
    "moe_layer_start_index": 1,
    "moe_norm_min": 1e-12,
    "moe_num_experts": 4,
    "moe_num_shared_experts": 2,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "num_key_value_heads": 2,
    "output_router_logits": False,
    "pad_token_id": 0,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 500000.0,
    "router_aux_loss_coef": 0.001,
    "transformers_version": "4.57.6",
    "use_bias": False,
    "use_cache": True,
    "vocab_size": 272,
}
TENSORS = """
model.layers.[1-2].mlp.gate.weight 4x64 F32
model.layers.[1-2].mlp.moe_statics.e_score_correction_bias 1x4 F32
model.embed_tokens.weight 272x64
model.layers.[0-2].input_layernorm.weight 64
model.layers.0.mlp.down_proj.weight 64x128
model.layers.0.mlp.gate_proj.weight 128x64
model.layers.0.mlp.up_proj.weight 128x64
model.layers.[0-2].post_attention_layernorm.weight 64
model.layers.[0-2].self_attn.k_proj.weight 32x64
model.layers.[0-2].self_attn.o_proj.weight 64x64
model.layers.[0-2].self_attn.q_proj.weight 64x64
model.layers.[0-2].self_attn.v_proj.weight 32x64
model.layers.[1-2].mlp.experts.[0-3].down_proj.weight 64x32
model.layers.[1-2].mlp.experts.[0-3].gate_proj.weight 32x64
model.layers.[1-2].mlp.experts.[0-3].up_proj.weight 32x64
model.layers.[1-2].mlp.shared_experts.down_proj.weight 64x64
model.layers.[1-2].mlp.shared_experts.gate_proj.weight 64x64
model.layers.[1-2].mlp.shared_experts.up_proj.weight 64x64
model.norm.weight 64
"""
CHECKPOINT = Checkpoint(CONFIG, TENSORS, ERNIE, "-")
