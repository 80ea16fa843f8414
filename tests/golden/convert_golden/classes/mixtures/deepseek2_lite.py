"""DeepseekV2ForCausalLM, small, of the 27 layers by which llama.cpp knows those without a low rank of q."""

from convert_golden.classes.checkpoint import Checkpoint
from convert_golden.classes.tokenizers import DEEPSEEK

CONFIG = {
    "architectures": ["DeepseekV2ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "aux_loss_alpha": 0.001,
    "bos_token_id": 269,
    "dtype": "bfloat16",
    "eos_token_id": 270,
    "first_k_dense_replace": 25,
    "head_dim": 16,
    "hidden_act": "silu",
    "hidden_size": 32,
    "initializer_range": 0.02,
    "intermediate_size": 32,
    "kv_lora_rank": 32,
    "max_position_embeddings": 163840,
    "mlp_bias": False,
    "model_type": "deepseek_v2",
    "moe_intermediate_size": 32,
    "n_group": None,
    "n_routed_experts": 4,
    "n_shared_experts": 2,
    "norm_topk_prob": False,
    "num_attention_heads": 2,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 27,
    "num_key_value_heads": 2,
    "q_lora_rank": None,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 16,
    "rms_norm_eps": 1e-06,
    "rope_scaling": {
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "factor": 40.0,
        "mscale": 0.707,
        "mscale_all_dim": 0.707,
        "original_max_position_embeddings": 4096,
        "rope_type": "yarn",
        "type": "yarn",
    },
    "rope_theta": 10000.0,
    "routed_scaling_factor": 1.0,
    "seq_aux": True,
    "tie_word_embeddings": False,
    "topk_group": None,
    "topk_method": "greedy",
    "transformers_version": "4.57.6",
    "use_cache": True,
    "v_head_dim": 16,
    "vocab_size": 288,
}
TENSORS = """
lm_head.weight 288x32
model.embed_tokens.weight 288x32
model.layers.[0-26].input_layernorm.weight 32
model.layers.[0-24].mlp.down_proj.weight 32x32
model.layers.[0-24].mlp.gate_proj.weight 32x32
model.layers.[0-24].mlp.up_proj.weight 32x32
model.layers.[0-26].post_attention_layernorm.weight 32
model.layers.[0-26].self_attn.kv_a_layernorm.weight 32
model.layers.[0-26].self_attn.kv_a_proj_with_mqa.weight 48x32
model.layers.[0-26].self_attn.kv_b_proj.weight 64x32
model.layers.[0-26].self_attn.o_proj.weight 32x32
model.layers.[0-26].self_attn.q_proj.weight 64x32
model.layers.[25-26].mlp.experts.[0-3].down_proj.weight 32x32
model.layers.[25-26].mlp.experts.[0-3].gate_proj.weight 32x32
model.layers.[25-26].mlp.experts.[0-3].up_proj.weight 32x32
model.layers.[25-26].mlp.gate.weight 4x32
model.layers.[25-26].mlp.shared_experts.down_proj.weight 32x64
model.layers.[25-26].mlp.shared_experts.gate_proj.weight 64x32
model.layers.[25-26].mlp.shared_experts.up_proj.weight 64x32
model.norm.weight 32
"""
CHECKPOINT = Checkpoint(CONFIG, TENSORS, DEEPSEEK, "deepseek-llm", variant="Lite")
