"""Gemma2ForCausalLM, small."""

from convert_golden.classes.checkpoint import Checkpoint
from convert_golden.classes.tokenizers import GEMMA

CONFIG = {
    "architectures": ["Gemma2ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "attn_logit_softcapping": 50.0,
    "bos_token_id": 2,
    "dtype": "bfloat16",
    "eos_token_id": 1,
    "final_logit_softcapping": 30.0,
    "head_dim": 32,
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "layer_types": ["sliding_attention", "full_attention"],
    "max_position_embeddings": 8192,
    "model_type": "gemma2",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "query_pre_attn_scalar": 32,
    "rms_norm_eps": 1e-06,
    "rope_theta": 10000.0,
    "sliding_window": 4096,
    "transformers_version": "4.57.6",
    "use_cache": True,
    "vocab_size": 288,
}
TENSORS = """
model.embed_tokens.weight 288x64
model.layers.[0-1].input_layernorm.weight 64
model.layers.[0-1].mlp.down_proj.weight 64x96
model.layers.[0-1].mlp.gate_proj.weight 96x64
model.layers.[0-1].mlp.up_proj.weight 96x64
model.layers.[0-1].post_attention_layernorm.weight 64
model.layers.[0-1].post_feedforward_layernorm.weight 64
model.layers.[0-1].pre_feedforward_layernorm.weight 64
model.layers.[0-1].self_attn.k_proj.weight 64x64
model.layers.[0-1].self_attn.o_proj.weight 64x128
model.layers.[0-1].self_attn.q_proj.weight 128x64
model.layers.[0-1].self_attn.v_proj.weight 64x64
model.norm.weight 64
"""
CHECKPOINT = Checkpoint(CONFIG, TENSORS, GEMMA, "-")
HEAD = Checkpoint(CONFIG, TENSORS, GEMMA, variant="head", released="lm_head.weight 288x64")
