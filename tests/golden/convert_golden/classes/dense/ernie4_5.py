"""Ernie4_5ForCausalLM, small."""

from typing import Any

from convert_golden.classes.checkpoint import Checkpoint
from convert_golden.classes.tokenizers import ERNIE

CONFIG = {
    "architectures": ["Ernie4_5ForCausalLM"],
    "bos_token_id": 1,
    "dtype": "bfloat16",
    "eos_token_id": 2,
    "head_dim": 32,
    "hidden_act": "silu",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "max_position_embeddings": 131072,
    "model_type": "ernie4_5",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 500000.0,
    "transformers_version": "4.57.6",
    "use_bias": False,
    "use_cache": True,
    "vocab_size": 272,
}
TENSORS = """
model.embed_tokens.weight 272x64
model.layers.[0-1].input_layernorm.weight 64
model.layers.[0-1].mlp.down_proj.weight 64x96
model.layers.[0-1].mlp.gate_proj.weight 96x64
model.layers.[0-1].mlp.up_proj.weight 96x64
model.layers.[0-1].post_attention_layernorm.weight 64
model.layers.[0-1].self_attn.k_proj.weight 64x64
model.layers.[0-1].self_attn.o_proj.weight 64x128
model.layers.[0-1].self_attn.q_proj.weight 128x64
model.layers.[0-1].self_attn.v_proj.weight 64x64
model.norm.weight 64
"""
CHECKPOINT = Checkpoint(CONFIG, TENSORS, ERNIE, "-")


def _unsaid() -> dict[str, Any]:
    files = ERNIE()
    settings = {key: value for key, value in files["tokenizer_config.json"].items() if key != "add_prefix_space"}
    return {**files, "tokenizer_config.json": settings}


UNSAID = Checkpoint(CONFIG, TENSORS, _unsaid, variant="unsaid")
