"""Exaone4ForCausalLM, small."""

from convert_golden.classes.checkpoint import Checkpoint
from convert_golden.classes.tokenizers import EXAONE

CONFIG = {
    "architectures": ["Exaone4ForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 270,
    "dtype": "bfloat16",
    "eos_token_id": 273,
    "head_dim": 16,
    "hidden_act": "silu",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "layer_types": ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"],
    "max_position_embeddings": 131072,
    "model_type": "exaone4",
    "num_attention_heads": 4,
    "num_hidden_layers": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 269,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "factor": 16.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "rope_theta": 1000000.0,
    "sliding_window": 4096,
    "sliding_window_pattern": 4,
    "tie_word_embeddings": False,
    "transformers_version": "4.57.6",
    "use_cache": True,
    "vocab_size": 288,
}
TENSORS = """
lm_head.weight 288x64
model.embed_tokens.weight 288x64
model.layers.[0-3].mlp.down_proj.weight 64x96
model.layers.[0-3].mlp.gate_proj.weight 96x64
model.layers.[0-3].mlp.up_proj.weight 96x64
model.layers.[0-3].post_attention_layernorm.weight 64
model.layers.[0-3].post_feedforward_layernorm.weight 64
model.layers.[0-3].self_attn.k_norm.weight 16
model.layers.[0-3].self_attn.k_proj.weight 32x64
model.layers.[0-3].self_attn.o_proj.weight 64x64
model.layers.[0-3].self_attn.q_norm.weight 16
model.layers.[0-3].self_attn.q_proj.weight 64x64
model.layers.[0-3].self_attn.v_proj.weight 32x64
model.norm.weight 64
"""
CHECKPOINT = Checkpoint(CONFIG, TENSORS, EXAONE, "exaone4")
_FULL = {"sliding_window": None, "sliding_window_pattern": None, "layer_types": ["full_attention"] * 4}
FULL = Checkpoint({**CONFIG, **_FULL}, TENSORS, EXAONE, "exaone4", variant="full")
