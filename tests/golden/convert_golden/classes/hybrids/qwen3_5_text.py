"""Qwen3_5ForCausalLM, small."""

from convert_golden.classes.checkpoint import Checkpoint
from convert_golden.classes.tokenizers import QWEN

CONFIG = {
    "architectures": ["Qwen3_5ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": None,
    "dtype": "bfloat16",
    "eos_token_id": 271,
    "head_dim": 32,
    "hidden_act": "silu",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "layer_types": ["linear_attention", "linear_attention", "linear_attention", "full_attention"],
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_value_head_dim": 16,
    "max_position_embeddings": 32768,
    "model_type": "qwen3_5_text",
    "mtp_num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_hidden_layers": 4,
    "num_key_value_heads": 2,
    "pad_token_id": None,
    "rms_norm_eps": 1e-06,
    "rope_parameters": {
        "mrope_interleaved": True,
        "mrope_section": [2, 1, 1],
        "partial_rotary_factor": 0.25,
        "rope_theta": 10000000.0,
        "rope_type": "default",
    },
    "tie_word_embeddings": False,
    "transformers_version": "5.24.0",
    "use_cache": True,
    "vocab_size": 288,
}
TENSORS = """
lm_head.weight 288x64
model.embed_tokens.weight 288x64
model.layers.[0-3].input_layernorm.weight 64
model.layers.[0-2].linear_attn.A_log 4
model.layers.[0-2].linear_attn.conv1d.weight 128x1x4
model.layers.[0-2].linear_attn.dt_bias 4
model.layers.[0-2].linear_attn.in_proj_a.weight 4x64
model.layers.[0-2].linear_attn.in_proj_b.weight 4x64
model.layers.[0-2].linear_attn.in_proj_qkv.weight 128x64
model.layers.[0-2].linear_attn.in_proj_z.weight 64x64
model.layers.[0-2].linear_attn.norm.weight 16
model.layers.[0-2].linear_attn.out_proj.weight 64x64
model.layers.[0-3].mlp.down_proj.weight 64x96
model.layers.[0-3].mlp.gate_proj.weight 96x64
model.layers.[0-3].mlp.up_proj.weight 96x64
model.layers.[0-3].post_attention_layernorm.weight 64
model.layers.3.self_attn.k_norm.weight 32
model.layers.3.self_attn.k_proj.weight 64x64
model.layers.3.self_attn.o_proj.weight 64x128
model.layers.3.self_attn.q_norm.weight 32
model.layers.3.self_attn.q_proj.weight 256x64
model.layers.3.self_attn.v_proj.weight 64x64
model.norm.weight 64
"""
MTP = """
mtp.fc.weight 64x128
mtp.layers.0.input_layernorm.weight 64
mtp.layers.0.post_attention_layernorm.weight 64
mtp.layers.0.self_attn.k_norm.weight 32
mtp.layers.0.self_attn.k_proj.weight 64x64
mtp.layers.0.self_attn.o_proj.weight 64x128
mtp.layers.0.self_attn.q_norm.weight 32
mtp.layers.0.self_attn.q_proj.weight 256x64
mtp.layers.0.self_attn.v_proj.weight 64x64
mtp.norm.weight 64
mtp.pre_fc_norm_embedding.weight 64
mtp.pre_fc_norm_hidden.weight 64
mtp.layers.0.mlp.down_proj.weight 64x96
mtp.layers.0.mlp.gate_proj.weight 96x64
mtp.layers.0.mlp.up_proj.weight 96x64
"""
CHECKPOINT = Checkpoint(CONFIG, TENSORS, QWEN, "qwen35", made_by="transformers 5.24.0", released=MTP)
