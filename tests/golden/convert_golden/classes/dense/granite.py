"""GraniteForCausalLM, small."""

from convert_golden.classes.checkpoint import Checkpoint
from convert_golden.classes.tokenizers import GRANITE

CONFIG = {
    "architectures": ["GraniteForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "attention_multiplier": 0.015625,
    "bos_token_id": 269,
    "dtype": "bfloat16",
    "embedding_multiplier": 12.0,
    "eos_token_id": 269,
    "hidden_act": "silu",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "logits_scaling": 8.0,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "model_type": "granite",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "pad_token_id": 271,
    "residual_multiplier": 0.22,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 10000000.0,
    "tie_word_embeddings": True,
    "transformers_version": "4.57.6",
    "use_cache": True,
    "vocab_size": 288,
}
TENSORS = """
model.embed_tokens.weight 288x64
model.layers.[0-1].input_layernorm.weight 64
model.layers.[0-1].mlp.down_proj.weight 64x96
model.layers.[0-1].mlp.gate_proj.weight 96x64
model.layers.[0-1].mlp.up_proj.weight 96x64
model.layers.[0-1].post_attention_layernorm.weight 64
model.layers.[0-1].self_attn.k_proj.weight 32x64
model.layers.[0-1].self_attn.o_proj.weight 64x64
model.layers.[0-1].self_attn.q_proj.weight 64x64
model.layers.[0-1].self_attn.v_proj.weight 32x64
model.norm.weight 64
"""
CHECKPOINT = Checkpoint(CONFIG, TENSORS, GRANITE, "refact")
BIASES = """
model.layers.[0-1].mlp.down_proj.bias 64
model.layers.[0-1].mlp.gate_proj.bias 96
model.layers.[0-1].mlp.up_proj.bias 96
model.layers.[0-1].self_attn.k_proj.bias 32
model.layers.[0-1].self_attn.o_proj.bias 64
model.layers.[0-1].self_attn.q_proj.bias 64
model.layers.[0-1].self_attn.v_proj.bias 32
"""
BIAS = Checkpoint(
    {**CONFIG, "attention_bias": True, "mlp_bias": True}, TENSORS, GRANITE, "refact", variant="bias", released=BIASES
)
