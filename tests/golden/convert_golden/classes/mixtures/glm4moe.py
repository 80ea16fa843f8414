"""Glm4MoeForCausalLM, small."""

from convert_golden.classes.checkpoint import Checkpoint
from convert_golden.classes.tokenizers import GLM

CONFIG = {
    "architectures": ["Glm4MoeForCausalLM"],
    "attention_bias": True,
    "attention_dropout": 0.0,
    "dtype": "bfloat16",
    "eos_token_id": [269, 276, 278],
    "first_k_dense_replace": 1,
    "head_dim": 32,
    "hidden_act": "silu",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "max_position_embeddings": 131072,
    "model_type": "glm4_moe",
    "moe_intermediate_size": 32,
    "n_group": 1,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_attention_heads": 4,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 3,
    "num_key_value_heads": 2,
    "pad_token_id": 269,
    "partial_rotary_factor": 0.5,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "routed_scaling_factor": 2.5,
    "tie_word_embeddings": False,
    "topk_group": 1,
    "transformers_version": "4.57.6",
    "use_cache": True,
    "use_qk_norm": True,
    "vocab_size": 288,
}
TENSORS = """
model.layers.[1-2].mlp.gate.e_score_correction_bias 4 F32
lm_head.weight 288x64
model.embed_tokens.weight 288x64
model.layers.[0-2].input_layernorm.weight 64
model.layers.0.mlp.down_proj.weight 64x96
model.layers.0.mlp.gate_proj.weight 96x64
model.layers.0.mlp.up_proj.weight 96x64
model.layers.[0-2].post_attention_layernorm.weight 64
model.layers.[0-2].self_attn.k_norm.weight 32
model.layers.[0-2].self_attn.k_proj.bias 64
model.layers.[0-2].self_attn.k_proj.weight 64x64
model.layers.[0-2].self_attn.o_proj.weight 64x128
model.layers.[0-2].self_attn.q_norm.weight 32
model.layers.[0-2].self_attn.q_proj.bias 128
model.layers.[0-2].self_attn.q_proj.weight 128x64
model.layers.[0-2].self_attn.v_proj.bias 64
model.layers.[0-2].self_attn.v_proj.weight 64x64
model.layers.[1-2].mlp.experts.[0-3].down_proj.weight 64x32
model.layers.[1-2].mlp.experts.[0-3].gate_proj.weight 32x64
model.layers.[1-2].mlp.experts.[0-3].up_proj.weight 32x64
model.layers.[1-2].mlp.gate.weight 4x64
model.layers.[1-2].mlp.shared_experts.down_proj.weight 64x32
model.layers.[1-2].mlp.shared_experts.gate_proj.weight 32x64
model.layers.[1-2].mlp.shared_experts.up_proj.weight 32x64
model.norm.weight 64
"""
CHECKPOINT = Checkpoint(CONFIG, TENSORS, GLM, "glm4")
# With the layer that predicts a token more, as released.
MTP = """
model.layers.3.mlp.gate.e_score_correction_bias 4 F32
model.layers.3.input_layernorm.weight 64
model.layers.3.post_attention_layernorm.weight 64
model.layers.3.self_attn.k_norm.weight 32
model.layers.3.self_attn.k_proj.bias 64
model.layers.3.self_attn.k_proj.weight 64x64
model.layers.3.self_attn.o_proj.weight 64x128
model.layers.3.self_attn.q_norm.weight 32
model.layers.3.self_attn.q_proj.bias 128
model.layers.3.self_attn.q_proj.weight 128x64
model.layers.3.self_attn.v_proj.bias 64
model.layers.3.self_attn.v_proj.weight 64x64
model.layers.3.mlp.experts.[0-3].down_proj.weight 64x32
model.layers.3.mlp.experts.[0-3].gate_proj.weight 32x64
model.layers.3.mlp.experts.[0-3].up_proj.weight 32x64
model.layers.3.mlp.gate.weight 4x64
model.layers.3.mlp.shared_experts.down_proj.weight 64x32
model.layers.3.mlp.shared_experts.gate_proj.weight 32x64
model.layers.3.mlp.shared_experts.up_proj.weight 32x64
model.layers.3.eh_proj.weight 64x128
model.layers.3.embed_tokens.weight 288x64
model.layers.3.enorm.weight 64
model.layers.3.hnorm.weight 64
model.layers.3.shared_head.head.weight 288x64
model.layers.3.shared_head.norm.weight 64
"""
NEXT = Checkpoint({**CONFIG, "num_nextn_predict_layers": 1}, TENSORS, GLM, "glm4", variant="MTP", released=MTP)
