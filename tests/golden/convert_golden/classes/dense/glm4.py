"""Glm4ForCausalLM, small."""

from convert_golden.classes.checkpoint import Checkpoint
from convert_golden.classes.tokenizers import GLM

CONFIG = {
    "architectures": ["Glm4ForCausalLM"],
    "attention_bias": True,
    "attention_dropout": 0.0,
    "dtype": "bfloat16",
    "eos_token_id": [269, 276, 278],
    "head_dim": 32,
    "hidden_act": "silu",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "max_position_embeddings": 32768,
    "model_type": "glm4",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "pad_token_id": 269,
    "partial_rotary_factor": 0.5,
    "rms_norm_eps": 1.5625e-07,
    "rope_theta": 10000.0,
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
model.layers.[0-1].post_mlp_layernorm.weight 64
model.layers.[0-1].post_self_attn_layernorm.weight 64
model.layers.[0-1].self_attn.k_proj.bias 64
model.layers.[0-1].self_attn.k_proj.weight 64x64
model.layers.[0-1].self_attn.o_proj.weight 64x128
model.layers.[0-1].self_attn.q_proj.bias 128
model.layers.[0-1].self_attn.q_proj.weight 128x64
model.layers.[0-1].self_attn.v_proj.bias 64
model.layers.[0-1].self_attn.v_proj.weight 64x64
model.norm.weight 64
"""
CHECKPOINT = Checkpoint(CONFIG, TENSORS, GLM, "glm4")
_YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
YARN = Checkpoint(
    {**CONFIG, "attention_bias": False, "rope_scaling": _YARN},
    "\n".join(line for line in TENSORS.splitlines() if ".bias " not in line),
    GLM,
    "glm4",
    variant="yarn",
)
