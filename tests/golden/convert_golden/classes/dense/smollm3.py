"""SmolLM3ForCausalLM, small."""

from convert_golden.classes.checkpoint import Checkpoint
from convert_golden.classes.tokenizers import SMOLLM3

CONFIG = {
    "architectures": ["SmolLM3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": None,
    "dtype": "bfloat16",
    "eos_token_id": 272,
    "hidden_act": "silu",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "layer_types": ["full_attention", "full_attention", "full_attention", "full_attention"],
    "max_position_embeddings": 65536,
    "mlp_bias": False,
    "model_type": "smollm3",
    "no_rope_layer_interval": 4,
    "no_rope_layers": [1, 1, 1, 0],
    "num_attention_heads": 4,
    "num_hidden_layers": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 270,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 5000000.0,
    "sliding_window": None,
    "transformers_version": "4.57.6",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 288,
}
TENSORS = """
model.embed_tokens.weight 288x64
model.layers.[0-3].input_layernorm.weight 64
model.layers.[0-3].mlp.down_proj.weight 64x96
model.layers.[0-3].mlp.gate_proj.weight 96x64
model.layers.[0-3].mlp.up_proj.weight 96x64
model.layers.[0-3].post_attention_layernorm.weight 64
model.layers.[0-3].self_attn.k_proj.weight 32x64
model.layers.[0-3].self_attn.o_proj.weight 64x64
model.layers.[0-3].self_attn.q_proj.weight 64x64
model.layers.[0-3].self_attn.v_proj.weight 32x64
model.norm.weight 64
"""
CHECKPOINT = Checkpoint(CONFIG, TENSORS, SMOLLM3, "llama-bpe")
