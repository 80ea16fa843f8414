"""HunYuanDenseV1ForCausalLM, small."""

from convert_golden.classes.checkpoint import Checkpoint
from convert_golden.classes.tokenizers import HUNYUAN

CONFIG = {
    "architectures": ["HunYuanDenseV1ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 269,
    "dtype": "bfloat16",
    "eos_token_id": 272,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 128,
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "max_position_embeddings": 262144,
    "model_type": "hunyuan_v1_dense",
    "num_attention_heads": 1,
    "num_hidden_layers": 2,
    "num_key_value_heads": 1,
    "pad_token_id": 271,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "alpha": 1000.0,
        "beta_fast": 32,
        "beta_slow": 1,
        "factor": 1.0,
        "mscale": 1.0,
        "mscale_all_dim": 0.0,
        "rope_type": "dynamic",
        "type": "dynamic",
    },
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "transformers_version": "4.57.6",
    "use_cache": True,
    "vocab_size": 288,
}
TENSORS = """
model.embed_tokens.weight 288x128
model.layers.[0-1].input_layernorm.weight 128
model.layers.[0-1].mlp.down_proj.weight 128x96
model.layers.[0-1].mlp.gate_proj.weight 96x128
model.layers.[0-1].mlp.up_proj.weight 96x128
model.layers.[0-1].post_attention_layernorm.weight 128
model.layers.[0-1].self_attn.k_proj.weight 128x128
model.layers.[0-1].self_attn.key_layernorm.weight 128
model.layers.[0-1].self_attn.o_proj.weight 128x128
model.layers.[0-1].self_attn.q_proj.weight 128x128
model.layers.[0-1].self_attn.query_layernorm.weight 128
model.layers.[0-1].self_attn.v_proj.weight 128x128
model.norm.weight 128
"""
CHECKPOINT = Checkpoint(CONFIG, TENSORS, HUNYUAN, "hunyuan-dense")
HEAD = Checkpoint(
    CONFIG,
    TENSORS,
    lambda: {**HUNYUAN(), "generation_config.json": {"eos_token_id": [270, 272]}},
    "hunyuan-dense",
    variant="head",
    released="lm_head.weight 288x128",
)
