"""DeepseekV2ForCausalLM, small."""

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
    "first_k_dense_replace": 1,
    "head_dim": 16,
    "hidden_act": "silu",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "kv_lora_rank": 32,
    "max_position_embeddings": 163840,
    "mlp_bias": False,
    "model_type": "deepseek_v2",
    "moe_intermediate_size": 32,
    "n_group": None,
    "n_routed_experts": 4,
    "n_shared_experts": 2,
    "norm_topk_prob": False,
    "num_attention_heads": 4,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 3,
    "num_key_value_heads": 4,
    "q_lora_rank": 32,
    "qk_nope_head_dim": 32,
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
    "v_head_dim": 32,
    "vocab_size": 288,
}
TENSORS = """
lm_head.weight 288x64
model.embed_tokens.weight 288x64
model.layers.[0-2].input_layernorm.weight 64
model.layers.0.mlp.down_proj.weight 64x96
model.layers.0.mlp.gate_proj.weight 96x64
model.layers.0.mlp.up_proj.weight 96x64
model.layers.[0-2].post_attention_layernorm.weight 64
model.layers.[0-2].self_attn.kv_a_layernorm.weight 32
model.layers.[0-2].self_attn.kv_a_proj_with_mqa.weight 48x64
model.layers.[0-2].self_attn.kv_b_proj.weight 256x32
model.layers.[0-2].self_attn.o_proj.weight 64x128
model.layers.[0-2].self_attn.q_a_layernorm.weight 32
model.layers.[0-2].self_attn.q_a_proj.weight 32x64
model.layers.[0-2].self_attn.q_b_proj.weight 192x32
model.layers.[1-2].mlp.experts.[0-3].down_proj.weight 64x32
model.layers.[1-2].mlp.experts.[0-3].gate_proj.weight 32x64
model.layers.[1-2].mlp.experts.[0-3].up_proj.weight 32x64
model.layers.[1-2].mlp.gate.weight 4x64
model.layers.[1-2].mlp.shared_experts.down_proj.weight 64x64
model.layers.[1-2].mlp.shared_experts.gate_proj.weight 64x64
model.layers.[1-2].mlp.shared_experts.up_proj.weight 64x64
model.norm.weight 64
"""
CHECKPOINT = Checkpoint(CONFIG, TENSORS, DEEPSEEK, "deepseek-llm")
