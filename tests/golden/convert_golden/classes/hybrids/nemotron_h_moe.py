"""NemotronHForCausalLM with experts, small: config.json as released, which transformers 5 spells otherwise."""

from convert_golden.classes.checkpoint import Checkpoint
from convert_golden.classes.tokenizers import NEMOTRON

CONFIG = {
    "architectures": ["NemotronHForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 270,
    "chunk_size": 16,
    "conv_kernel": 4,
    "dtype": "bfloat16",
    "eos_token_id": 271,
    "expand": 2,
    "head_dim": 32,
    "hidden_dropout": 0.0,
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "layer_norm_epsilon": 1e-05,
    "hybrid_override_pattern": "ME*E",
    "num_hidden_layers": 4,
    "mamba_head_dim": 16,
    "mamba_hidden_act": "silu",
    "mamba_num_heads": 4,
    "mamba_proj_bias": False,
    "mamba_ssm_cache_dtype": "float32",
    "max_position_embeddings": 4096,
    "mlp_bias": False,
    "mlp_hidden_act": "relu2",
    "model_type": "nemotron_h",
    "moe_intermediate_size": 32,
    "moe_latent_size": None,
    "moe_shared_expert_intermediate_size": 64,
    "moe_shared_expert_overlap": True,
    "n_group": 1,
    "n_groups": 2,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_attention_heads": 4,
    "num_experts_per_tok": 2,
    "num_key_value_heads": 2,
    "num_logits_to_keep": 1,
    "output_router_logits": False,
    "pad_token_id": 269,
    "rescale_prenorm_residual": True,
    "residual_in_fp32": False,
    "routed_scaling_factor": 2.5,
    "sliding_window": None,
    "ssm_state_size": 16,
    "tie_word_embeddings": False,
    "time_step_floor": 0.0001,
    "time_step_limit": [0.0, float("inf")],
    "time_step_max": 0.1,
    "time_step_min": 0.001,
    "topk_group": 1,
    "transformers_version": "5.24.0",
    "use_bias": False,
    "use_cache": True,
    "use_conv_bias": True,
    "use_mamba_kernels": True,
    "vocab_size": 288,
}
TENSORS = """
backbone.layers.[1,3].mixer.gate.e_score_correction_bias 4 F32
backbone.layers.[1,3].mixer.gate.weight 4x64 F32
backbone.embeddings.weight 288x64
backbone.layers.0.mixer.A_log 4
backbone.layers.0.mixer.D 4
backbone.layers.0.mixer.conv1d.bias 128
backbone.layers.0.mixer.conv1d.weight 128x1x4
backbone.layers.0.mixer.dt_bias 4
backbone.layers.0.mixer.in_proj.weight 196x64
backbone.layers.0.mixer.norm.weight 64
backbone.layers.0.mixer.out_proj.weight 64x64
backbone.layers.[0-3].norm.weight 64
backbone.layers.[1,3].mixer.experts.[0-3].down_proj.weight 64x32
backbone.layers.[1,3].mixer.experts.[0-3].up_proj.weight 32x64
backbone.layers.[1,3].mixer.shared_experts.down_proj.weight 64x64
backbone.layers.[1,3].mixer.shared_experts.up_proj.weight 64x64
backbone.layers.2.mixer.k_proj.weight 64x64
backbone.layers.2.mixer.o_proj.weight 64x128
backbone.layers.2.mixer.q_proj.weight 128x64
backbone.layers.2.mixer.v_proj.weight 64x64
backbone.norm_f.weight 64
lm_head.weight 288x64
"""
CHECKPOINT = Checkpoint(CONFIG, TENSORS, NEMOTRON, "tekken", made_by="transformers 5.24.0", variant="MoE")
