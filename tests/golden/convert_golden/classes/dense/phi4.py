"""Phi3ForCausalLM as Phi-4 has it, small; by a name with Phi 3 in it llama.cpp asks for other tokens."""

from convert_golden.classes.checkpoint import Checkpoint
from convert_golden.classes.tokenizers import PHI4

CONFIG = {
    "architectures": ["Phi3ForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 269,
    "dtype": "bfloat16",
    "embd_pdrop": 0.0,
    "eos_token_id": 269,
    "hidden_act": "silu",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "max_position_embeddings": 16384,
    "model_type": "phi3",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "original_max_position_embeddings": 16384,
    "pad_token_id": 269,
    "partial_rotary_factor": 1.0,
    "resid_pdrop": 0.0,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 250000.0,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "transformers_version": "4.57.6",
    "use_cache": True,
    "vocab_size": 288,
}
TENSORS = """
lm_head.weight 288x64
model.embed_tokens.weight 288x64
model.layers.[0-1].input_layernorm.weight 64
model.layers.[0-1].mlp.down_proj.weight 64x96
model.layers.[0-1].mlp.gate_up_proj.weight 192x64
model.layers.[0-1].post_attention_layernorm.weight 64
model.layers.[0-1].self_attn.o_proj.weight 64x64
model.layers.[0-1].self_attn.qkv_proj.weight 128x64
model.norm.weight 64
"""
CHECKPOINT = Checkpoint(CONFIG, TENSORS, PHI4, "dbrx", folder="Phi-4")
