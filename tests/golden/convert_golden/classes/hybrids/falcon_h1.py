"""FalconH1ForCausalLM, small."""

from convert_golden.classes.checkpoint import Checkpoint
from convert_golden.classes.tokenizers import FALCON_H1

CONFIG = {
    "architectures": ["FalconH1ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "attention_in_multiplier": 1.0,
    "attention_out_multiplier": 0.9375,
    "bos_token_id": 270,
    "dtype": "bfloat16",
    "embedding_multiplier": 5.65,
    "eos_token_id": 271,
    "head_dim": 16,
    "hidden_act": "silu",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "key_multiplier": 0.39,
    "lm_head_multiplier": 0.0195,
    "mamba_chunk_size": 256,
    "mamba_conv_bias": True,
    "mamba_d_conv": 4,
    "mamba_d_head": 16,
    "mamba_d_ssm": 64,
    "mamba_d_state": 16,
    "mamba_expand": 1,
    "mamba_n_groups": 1,
    "mamba_n_heads": 4,
    "mamba_norm_before_gate": True,
    "mamba_proj_bias": False,
    "mamba_rms_norm": False,
    "max_position_embeddings": 8192,
    "mlp_bias": False,
    "mlp_multipliers": [0.88, 0.39],
    "model_type": "falcon_h1",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "num_logits_to_keep": 1,
    "pad_token_id": 269,
    "projectors_bias": False,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 100000.0,
    "ssm_in_multiplier": 1.25,
    "ssm_multipliers": [0.35, 0.25, 0.17, 0.5, 0.35],
    "ssm_out_multiplier": 0.2357,
    "tie_word_embeddings": False,
    "transformers_version": "4.57.6",
    "use_cache": True,
    "vocab_size": 288,
}
TENSORS = """
lm_head.weight 288x64
model.embed_tokens.weight 288x64
model.final_layernorm.weight 64
model.layers.[0-1].feed_forward.down_proj.weight 64x96
model.layers.[0-1].feed_forward.gate_proj.weight 96x64
model.layers.[0-1].feed_forward.up_proj.weight 96x64
model.layers.[0-1].input_layernorm.weight 64
model.layers.[0-1].mamba.A_log 4
model.layers.[0-1].mamba.D 4
model.layers.[0-1].mamba.conv1d.bias 96
model.layers.[0-1].mamba.conv1d.weight 96x1x4
model.layers.[0-1].mamba.dt_bias 4
model.layers.[0-1].mamba.in_proj.weight 164x64
model.layers.[0-1].mamba.out_proj.weight 64x64
model.layers.[0-1].pre_ff_layernorm.weight 64
model.layers.[0-1].self_attn.k_proj.weight 32x64
model.layers.[0-1].self_attn.o_proj.weight 64x64
model.layers.[0-1].self_attn.q_proj.weight 64x64
model.layers.[0-1].self_attn.v_proj.weight 32x64
"""
CHECKPOINT = Checkpoint(CONFIG, TENSORS, FALCON_H1, "falcon-h1")
