"""Lfm2ForCausalLM, small."""

from convert_golden.classes.checkpoint import Checkpoint
from convert_golden.classes.tokenizers import LFM2

CONFIG = {
    "architectures": ["Lfm2ForCausalLM"],
    "block_auto_adjust_ff_dim": True,
    "block_ffn_dim_multiplier": 1.0,
    "block_multiple_of": 32,
    "bos_token_id": 270,
    "conv_L_cache": 3,
    "conv_bias": False,
    "dtype": "bfloat16",
    "eos_token_id": 273,
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "layer_types": ["conv", "conv", "full_attention"],
    "max_position_embeddings": 128000,
    "model_type": "lfm2",
    "norm_eps": 1e-05,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "num_key_value_heads": 2,
    "pad_token_id": 269,
    "rope_theta": 1000000.0,
    "transformers_version": "4.57.6",
    "use_cache": True,
    "vocab_size": 288,
}
TENSORS = """
model.embed_tokens.weight 288x64
model.embedding_norm.weight 64
model.layers.[0-1].conv.conv.weight 64x1x3
model.layers.[0-1].conv.in_proj.weight 192x64
model.layers.[0-1].conv.out_proj.weight 64x64
model.layers.[0-2].feed_forward.w1.weight 64x64
model.layers.[0-2].feed_forward.w2.weight 64x64
model.layers.[0-2].feed_forward.w3.weight 64x64
model.layers.[0-2].ffn_norm.weight 64
model.layers.[0-2].operator_norm.weight 64
model.layers.2.self_attn.k_layernorm.weight 16
model.layers.2.self_attn.k_proj.weight 32x64
model.layers.2.self_attn.out_proj.weight 64x64
model.layers.2.self_attn.q_layernorm.weight 16
model.layers.2.self_attn.q_proj.weight 64x64
model.layers.2.self_attn.v_proj.weight 32x64
"""
CHECKPOINT = Checkpoint(CONFIG, TENSORS, LFM2, "lfm2")
