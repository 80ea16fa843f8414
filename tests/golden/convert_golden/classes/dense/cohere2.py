"""Cohere2ForCausalLM, small."""

from convert_golden.classes.checkpoint import Checkpoint
from convert_golden.classes.tokenizers import COHERE

CONFIG = {
    "_sliding_window_pattern": 4,
    "architectures": ["Cohere2ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 272,
    "dtype": "bfloat16",
    "eos_token_id": 274,
    "head_dim": 16,
    "hidden_act": "silu",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "layer_norm_eps": 1e-05,
    "layer_types": ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"],
    "logit_scale": 0.25,
    "max_position_embeddings": 8192,
    "model_type": "cohere2",
    "num_attention_heads": 4,
    "num_hidden_layers": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 269,
    "rope_scaling": None,
    "rope_theta": 50000.0,
    "rotary_pct": 1.0,
    "sliding_window": 4096,
    "transformers_version": "4.57.6",
    "use_cache": True,
    "vocab_size": 288,
}
TENSORS = """
model.embed_tokens.weight 288x64
model.layers.[0-3].input_layernorm.weight 64
model.layers.[0-3].mlp.down_proj.weight 64x96
model.layers.[0-3].mlp.gate_proj.weight 96x64
model.layers.[0-3].mlp.up_proj.weight 96x64
model.layers.[0-3].self_attn.k_proj.weight 32x64
model.layers.[0-3].self_attn.o_proj.weight 64x64
model.layers.[0-3].self_attn.q_proj.weight 64x64
model.layers.[0-3].self_attn.v_proj.weight 32x64
model.norm.weight 64
"""
CHECKPOINT = Checkpoint(CONFIG, TENSORS, COHERE, "command-r")
