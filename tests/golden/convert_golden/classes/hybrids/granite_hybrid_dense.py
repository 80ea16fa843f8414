"""GraniteMoeHybridForCausalLM, small."""

from convert_golden.classes.checkpoint import Checkpoint
from convert_golden.classes.tokenizers import GRANITE

CONFIG = {
    "architectures": ["GraniteMoeHybridForCausalLM"],
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
    "layer_types": ["mamba", "attention", "mamba"],
    "logits_scaling": 10.0,
    "mamba_chunk_size": 256,
    "mamba_conv_bias": True,
    "mamba_d_conv": 4,
    "mamba_d_head": 16,
    "mamba_d_state": 16,
    "mamba_expand": 2,
    "mamba_n_groups": 1,
    "mamba_n_heads": 8,
    "mamba_proj_bias": False,
    "max_position_embeddings": 131072,
    "model_type": "granitemoehybrid",
    "num_attention_heads": 4,
    "num_experts_per_tok": 0,
    "num_hidden_layers": 3,
    "num_key_value_heads": 2,
    "num_local_experts": 0,
    "output_router_logits": False,
    "pad_token_id": 271,
    "position_embedding_type": "nope",
    "residual_multiplier": 0.22,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 10000000.0,
    "router_aux_loss_coef": 0.001,
    "shared_intermediate_size": 96,
    "tie_word_embeddings": True,
    "transformers_version": "4.57.6",
    "use_cache": True,
    "vocab_size": 288,
}
TENSORS = """
model.embed_tokens.weight 288x64
model.layers.[0-2].input_layernorm.weight 64
model.layers.[0,2].mamba.A_log 8
model.layers.[0,2].mamba.D 8
model.layers.[0,2].mamba.conv1d.bias 160
model.layers.[0,2].mamba.conv1d.weight 160x1x4
model.layers.[0,2].mamba.dt_bias 8
model.layers.[0,2].mamba.in_proj.weight 296x64
model.layers.[0,2].mamba.norm.weight 128
model.layers.[0,2].mamba.out_proj.weight 64x128
model.layers.[0-2].post_attention_layernorm.weight 64
model.layers.[0-2].shared_mlp.input_linear.weight 192x64
model.layers.[0-2].shared_mlp.output_linear.weight 64x96
model.layers.1.self_attn.k_proj.weight 32x64
model.layers.1.self_attn.o_proj.weight 64x64
model.layers.1.self_attn.q_proj.weight 64x64
model.layers.1.self_attn.v_proj.weight 32x64
model.norm.weight 64
"""
CHECKPOINT = Checkpoint(CONFIG, TENSORS, GRANITE, "granite-docling", variant="Dense")
