"""NemotronHForCausalLM, small: config.json as released, which transformers 5 spells otherwise."""

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
    "hybrid_override_pattern": "M-*M",
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
    "n_groups": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_logits_to_keep": 1,
    "pad_token_id": 269,
    "rescale_prenorm_residual": True,
    "residual_in_fp32": False,
    "sliding_window": None,
    "ssm_state_size": 16,
    "tie_word_embeddings": False,
    "time_step_floor": 0.0001,
    "time_step_limit": [0.0, float("inf")],
    "time_step_max": 0.1,
    "time_step_min": 0.001,
    "transformers_version": "4.48.0",
    "use_bias": False,
    "use_cache": True,
    "use_conv_bias": True,
    "use_mamba_kernels": True,
    "vocab_size": 288,
}
TENSORS = """
backbone.embeddings.weight 288x64
backbone.layers.[0,3].mixer.A_log 4
backbone.layers.[0,3].mixer.D 4
backbone.layers.[0,3].mixer.conv1d.bias 128
backbone.layers.[0,3].mixer.conv1d.weight 128x1x4
backbone.layers.[0,3].mixer.dt_bias 4
backbone.layers.[0,3].mixer.in_proj.weight 196x64
backbone.layers.[0,3].mixer.norm.weight 64
backbone.layers.[0,3].mixer.out_proj.weight 64x64
backbone.layers.[0-3].norm.weight 64
backbone.layers.1.mixer.down_proj.weight 64x96
backbone.layers.1.mixer.up_proj.weight 96x64
backbone.layers.2.mixer.k_proj.weight 64x64
backbone.layers.2.mixer.o_proj.weight 64x128
backbone.layers.2.mixer.q_proj.weight 128x64
backbone.layers.2.mixer.v_proj.weight 64x64
backbone.norm_f.weight 64
lm_head.weight 288x64
"""
CHECKPOINT = Checkpoint(CONFIG, TENSORS, NEMOTRON, "tekken", made_by="transformers 5.24.0")
