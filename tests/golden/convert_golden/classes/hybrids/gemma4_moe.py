"""Gemma4ForCausalLM with experts, small."""

from convert_golden.classes.checkpoint import Checkpoint
from convert_golden.classes.tokenizers import GEMMA4

CONFIG = {
    "architectures": ["Gemma4ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "attention_k_eq_v": True,
    "bos_token_id": 2,
    "dtype": "bfloat16",
    "enable_moe_block": True,
    "eos_token_id": 1,
    "final_logit_softcapping": 30.0,
    "head_dim": 32,
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 64,
    "hidden_size_per_layer_input": 0,
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "layer_types": ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"],
    "max_position_embeddings": 131072,
    "model_type": "gemma4_text",
    "moe_intermediate_size": 32,
    "num_attention_heads": 4,
    "num_experts": 4,
    "num_hidden_layers": 4,
    "num_key_value_heads": 2,
    "num_kv_shared_layers": 0,
    "pad_token_id": 0,
    "per_layer_config": {"3": {"head_dim": 64, "num_key_value_heads": 1}},
    "rms_norm_eps": 1e-06,
    "rope_parameters": {
        "full_attention": {"partial_rotary_factor": 0.25, "rope_theta": 1000000.0, "rope_type": "proportional"},
        "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"},
    },
    "sliding_window": 512,
    "tie_word_embeddings": True,
    "top_k_experts": 2,
    "transformers_version": "5.24.0",
    "use_bidirectional_attention": None,
    "use_cache": True,
    "use_double_wide_mlp": False,
    "vocab_size": 279,
    "vocab_size_per_layer_input": 262144,
}
TENSORS = """
model.embed_tokens.weight 279x64
model.layers.[0-3].experts.down_proj 4x64x32
model.layers.[0-3].experts.gate_up_proj 4x64x64
model.layers.[0-3].input_layernorm.weight 64
model.layers.[0-3].layer_scalar 1
model.layers.[0-3].mlp.down_proj.weight 64x96
model.layers.[0-3].mlp.gate_proj.weight 96x64
model.layers.[0-3].mlp.up_proj.weight 96x64
model.layers.[0-3].post_attention_layernorm.weight 64
model.layers.[0-3].post_feedforward_layernorm.weight 64
model.layers.[0-3].post_feedforward_layernorm_1.weight 64
model.layers.[0-3].post_feedforward_layernorm_2.weight 64
model.layers.[0-3].pre_feedforward_layernorm.weight 64
model.layers.[0-3].pre_feedforward_layernorm_2.weight 64
model.layers.[0-3].router.per_expert_scale 4
model.layers.[0-3].router.proj.weight 4x64
model.layers.[0-3].router.scale 64
model.layers.[0-2].self_attn.k_norm.weight 32
model.layers.[0-3].self_attn.k_proj.weight 64x64
model.layers.[0-2].self_attn.o_proj.weight 64x128
model.layers.[0-2].self_attn.q_norm.weight 32
model.layers.[0-2].self_attn.q_proj.weight 128x64
model.layers.[0-2].self_attn.v_proj.weight 64x64
model.layers.3.self_attn.k_norm.weight 64
model.layers.3.self_attn.o_proj.weight 64x256
model.layers.3.self_attn.q_norm.weight 64
model.layers.3.self_attn.q_proj.weight 256x64
model.norm.weight 64
"""
CHECKPOINT = Checkpoint(CONFIG, TENSORS, GEMMA4, "-", made_by="transformers 5.24.0", variant="MoE")
