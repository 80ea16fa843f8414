"""Qwen2MoeForCausalLM, small."""

from convert_golden.classes.checkpoint import Checkpoint
from convert_golden.classes.tokenizers import QWEN

CONFIG = {
    "architectures": ["Qwen2MoeForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 269,
    "decoder_sparse_step": 1,
    "dtype": "bfloat16",
    "eos_token_id": 271,
    "hidden_act": "silu",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "max_position_embeddings": 32768,
    "max_window_layers": 28,
    "mlp_only_layers": [],
    "model_type": "qwen2_moe",
    "moe_intermediate_size": 32,
    "norm_topk_prob": False,
    "num_attention_heads": 4,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "output_router_logits": False,
    "qkv_bias": True,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000.0,
    "router_aux_loss_coef": 0.001,
    "shared_expert_intermediate_size": 64,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "transformers_version": "4.57.6",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 288,
}
TENSORS = """
lm_head.weight 288x64
model.embed_tokens.weight 288x64
model.layers.[0-1].input_layernorm.weight 64
model.layers.[0-1].mlp.experts.[0-3].down_proj.weight 64x32
model.layers.[0-1].mlp.experts.[0-3].gate_proj.weight 32x64
model.layers.[0-1].mlp.experts.[0-3].up_proj.weight 32x64
model.layers.[0-1].mlp.gate.weight 4x64
model.layers.[0-1].mlp.shared_expert.down_proj.weight 64x64
model.layers.[0-1].mlp.shared_expert.gate_proj.weight 64x64
model.layers.[0-1].mlp.shared_expert.up_proj.weight 64x64
model.layers.[0-1].mlp.shared_expert_gate.weight 1x64
model.layers.[0-1].post_attention_layernorm.weight 64
model.layers.[0-1].self_attn.k_proj.bias 32
model.layers.[0-1].self_attn.k_proj.weight 32x64
model.layers.[0-1].self_attn.o_proj.weight 64x64
model.layers.[0-1].self_attn.q_proj.bias 64
model.layers.[0-1].self_attn.q_proj.weight 64x64
model.layers.[0-1].self_attn.v_proj.bias 32
model.layers.[0-1].self_attn.v_proj.weight 32x64
model.norm.weight 64
"""
CHECKPOINT = Checkpoint(CONFIG, TENSORS, QWEN, "qwen2")
