"""Llama4ForCausalLM, small."""

from convert_golden.classes.checkpoint import Checkpoint
from convert_golden.classes.tokenizers import LLAMA4

CONFIG = {
    "architectures": ["Llama4ForCausalLM"],
    "attention_bias": False,
    "attention_chunk_size": 8192,
    "attention_dropout": 0.0,
    "attn_scale": 0.1,
    "attn_temperature_tuning": True,
    "bos_token_id": 269,
    "dtype": "bfloat16",
    "eos_token_id": [270, 271],
    "floor_scale": 8192,
    "head_dim": 32,
    "hidden_act": "silu",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "interleave_moe_layer_step": 2,
    "intermediate_size": 32,
    "intermediate_size_mlp": 96,
    "layer_types": ["chunked_attention", "chunked_attention", "chunked_attention", "full_attention"],
    "max_position_embeddings": 131072,
    "model_type": "llama4_text",
    "moe_layers": [1, 3],
    "no_rope_layers": [1, 1, 1, 0],
    "num_attention_heads": 4,
    "num_experts_per_tok": 1,
    "num_hidden_layers": 4,
    "num_key_value_heads": 2,
    "num_local_experts": 4,
    "output_router_logits": False,
    "pad_token_id": 272,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 500000.0,
    "router_aux_loss_coef": 0.001,
    "router_jitter_noise": 0.0,
    "tie_word_embeddings": False,
    "transformers_version": "4.57.6",
    "use_cache": True,
    "use_qk_norm": True,
    "vocab_size": 288,
}
TENSORS = """
lm_head.weight 288x64
model.embed_tokens.weight 288x64
model.layers.[0,2].feed_forward.down_proj.weight 64x96
model.layers.[0,2].feed_forward.gate_proj.weight 96x64
model.layers.[0,2].feed_forward.up_proj.weight 96x64
model.layers.[0-3].input_layernorm.weight 64
model.layers.[0-3].post_attention_layernorm.weight 64
model.layers.[0-3].self_attn.k_proj.weight 64x64
model.layers.[0-3].self_attn.o_proj.weight 64x128
model.layers.[0-3].self_attn.q_proj.weight 128x64
model.layers.[0-3].self_attn.v_proj.weight 64x64
model.layers.[1,3].feed_forward.experts.down_proj 4x32x64
model.layers.[1,3].feed_forward.experts.gate_up_proj 4x64x64
model.layers.[1,3].feed_forward.router.weight 4x64
model.layers.[1,3].feed_forward.shared_expert.down_proj.weight 64x32
model.layers.[1,3].feed_forward.shared_expert.gate_proj.weight 32x64
model.layers.[1,3].feed_forward.shared_expert.up_proj.weight 32x64
model.norm.weight 64
"""
CHECKPOINT = Checkpoint(CONFIG, TENSORS, LLAMA4, "llama4")
