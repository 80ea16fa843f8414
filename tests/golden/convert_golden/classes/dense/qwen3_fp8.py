"""Qwen3ForCausalLM in FP8, as released: BF16 scales, of which the last block of a row or column is not whole."""

from convert_golden.classes.checkpoint import Checkpoint
from convert_golden.classes.fp8 import fp8
from convert_golden.classes.tokenizers import QWEN

CONFIG = {
    "architectures": ["Qwen3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 269,
    "eos_token_id": 271,
    "head_dim": 64,
    "hidden_act": "silu",
    "hidden_size": 192,
    "initializer_range": 0.02,
    "intermediate_size": 160,
    "max_position_embeddings": 40960,
    "max_window_layers": 2,
    "model_type": "qwen3",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "quantization_config": {
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
        "modules_to_not_convert": ["lm_head", "model.layers.0.input_layernorm", "model.layers.1.input_layernorm"],
        "quant_method": "fp8",
        "weight_block_size": [128, 128],
    },
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.51.0",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 288,
}
TENSORS = """
model.embed_tokens.weight 288x192
model.layers.[0-1].input_layernorm.weight 192
model.layers.[0-1].mlp.down_proj.weight 192x160
model.layers.[0-1].mlp.gate_proj.weight 160x192
model.layers.[0-1].mlp.up_proj.weight 160x192
model.layers.[0-1].post_attention_layernorm.weight 192
model.layers.[0-1].self_attn.k_norm.weight 64
model.layers.[0-1].self_attn.k_proj.weight 128x192
model.layers.[0-1].self_attn.o_proj.weight 192x256
model.layers.[0-1].self_attn.q_norm.weight 64
model.layers.[0-1].self_attn.q_proj.weight 256x192
model.layers.[0-1].self_attn.v_proj.weight 128x192
model.norm.weight 192
"""
CHECKPOINT = Checkpoint(CONFIG, fp8(TENSORS, "BF16"), QWEN, "qwen2", made_by="hand", variant="FP8")
