"""MixtralForCausalLM, small."""

from convert_golden.classes.checkpoint import Checkpoint
from convert_golden.classes.tokenizers import MIXTRAL

CONFIG = {
    "architectures": ["MixtralForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "dtype": "bfloat16",
    "eos_token_id": 2,
    "head_dim": None,
    "hidden_act": "silu",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "max_position_embeddings": 131072,
    "model_type": "mixtral",
    "num_attention_heads": 4,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "num_local_experts": 4,
    "output_router_logits": False,
    "rms_norm_eps": 1e-05,
    "rope_theta": 1000000.0,
    "router_aux_loss_coef": 0.001,
    "router_jitter_noise": 0.0,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "transformers_version": "4.57.6",
    "use_cache": True,
    "vocab_size": 272,
}
TENSORS = """
lm_head.weight 272x64
model.embed_tokens.weight 272x64
model.layers.[0-1].block_sparse_moe.experts.[0-3].w1.weight 96x64
model.layers.[0-1].block_sparse_moe.experts.[0-3].w2.weight 64x96
model.layers.[0-1].block_sparse_moe.experts.[0-3].w3.weight 96x64
model.layers.[0-1].block_sparse_moe.gate.weight 4x64
model.layers.[0-1].input_layernorm.weight 64
model.layers.[0-1].post_attention_layernorm.weight 64
model.layers.[0-1].self_attn.k_proj.weight 32x64
model.layers.[0-1].self_attn.o_proj.weight 64x64
model.layers.[0-1].self_attn.q_proj.weight 64x64
model.layers.[0-1].self_attn.v_proj.weight 32x64
model.norm.weight 64
"""
CHECKPOINT = Checkpoint(CONFIG, TENSORS, MIXTRAL, "-")
