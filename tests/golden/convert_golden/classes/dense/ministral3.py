"""Ministral3ForCausalLM, small."""

from convert_golden.classes.checkpoint import Checkpoint
from convert_golden.classes.tokenizers import MISTRAL

CONFIG = {
    "architectures": ["Ministral3ForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 270,
    "dtype": "bfloat16",
    "eos_token_id": 271,
    "head_dim": 32,
    "hidden_act": "silu",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "max_position_embeddings": 262144,
    "model_type": "ministral3",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "pad_token_id": 274,
    "rms_norm_eps": 1e-05,
    "rope_parameters": {
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "factor": 16.0,
        "llama_4_scaling_beta": 0.1,
        "max_position_embeddings": 16384,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
        "original_max_position_embeddings": 16384,
        "rope_theta": 1000000.0,
        "rope_type": "yarn",
        "type": "yarn",
    },
    "sliding_window": None,
    "tie_word_embeddings": False,
    "transformers_version": "5.24.0",
    "use_cache": True,
    "vocab_size": 288,
}
TENSORS = """
lm_head.weight 288x64
model.embed_tokens.weight 288x64
model.layers.[0-1].input_layernorm.weight 64
model.layers.[0-1].mlp.down_proj.weight 64x96
model.layers.[0-1].mlp.gate_proj.weight 96x64
model.layers.[0-1].mlp.up_proj.weight 96x64
model.layers.[0-1].post_attention_layernorm.weight 64
model.layers.[0-1].self_attn.k_proj.weight 64x64
model.layers.[0-1].self_attn.o_proj.weight 64x128
model.layers.[0-1].self_attn.q_proj.weight 128x64
model.layers.[0-1].self_attn.v_proj.weight 64x64
model.norm.weight 64
"""
CHECKPOINT = Checkpoint(CONFIG, TENSORS, MISTRAL, "tekken", made_by="transformers 5.24.0")
