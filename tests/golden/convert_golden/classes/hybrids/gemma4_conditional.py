"""Gemma4ForConditionalGeneration, small."""

from convert_golden.classes.checkpoint import Checkpoint
from convert_golden.classes.tokenizers import GEMMA4

CONFIG = {
    "architectures": ["Gemma4ForConditionalGeneration"],
    "audio_config": None,
    "audio_token_id": 273,
    "boa_token_id": 274,
    "boi_token_id": 271,
    "dtype": "bfloat16",
    "eoa_token_id": 275,
    "eoa_token_index": 258883,
    "eoi_token_id": 272,
    "image_token_id": 270,
    "initializer_range": 0.02,
    "model_type": "gemma4",
    "text_config": {
        "attention_bias": False,
        "attention_dropout": 0.0,
        "attention_k_eq_v": False,
        "bos_token_id": 2,
        "dtype": "bfloat16",
        "enable_moe_block": False,
        "eos_token_id": 1,
        "final_logit_softcapping": 30.0,
        "head_dim": 32,
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": 64,
        "hidden_size_per_layer_input": 32,
        "initializer_range": 0.02,
        "intermediate_size": 96,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
        "max_position_embeddings": 131072,
        "model_type": "gemma4_text",
        "moe_intermediate_size": None,
        "num_attention_heads": 4,
        "num_experts": None,
        "num_hidden_layers": 4,
        "num_key_value_heads": 2,
        "num_kv_shared_layers": 2,
        "pad_token_id": 0,
        "per_layer_config": {"1": {"head_dim": 64}, "3": {"head_dim": 64}},
        "rms_norm_eps": 1e-06,
        "rope_parameters": {
            "full_attention": {"partial_rotary_factor": 0.25, "rope_theta": 1000000.0, "rope_type": "proportional"},
            "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"},
        },
        "sliding_window": 512,
        "tie_word_embeddings": True,
        "top_k_experts": None,
        "use_bidirectional_attention": None,
        "use_cache": True,
        "use_double_wide_mlp": True,
        "vocab_size": 279,
        "vocab_size_per_layer_input": 279,
    },
    "tie_word_embeddings": True,
    "transformers_version": "5.24.0",
    "video_token_id": 276,
    "vision_config": {
        "attention_bias": False,
        "attention_dropout": 0.0,
        "dtype": "bfloat16",
        "global_head_dim": 16,
        "head_dim": 16,
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": 32,
        "initializer_range": 0.02,
        "intermediate_size": 64,
        "max_position_embeddings": 131072,
        "model_type": "gemma4_vision",
        "num_attention_heads": 2,
        "num_hidden_layers": 1,
        "num_key_value_heads": 2,
        "patch_size": 4,
        "pooling_kernel_size": 3,
        "position_embedding_size": 16,
        "rms_norm_eps": 1e-06,
        "rope_parameters": {"rope_theta": 100.0, "rope_type": "axial"},
        "standardize": False,
        "use_clipped_linears": False,
    },
}
TENSORS = """
model.embed_vision.embedding_projection.weight 64x32
model.language_model.embed_tokens.weight 279x64
model.language_model.embed_tokens_per_layer.weight 279x128
model.language_model.layers.[0-3].input_layernorm.weight 64
model.language_model.layers.[0-3].layer_scalar 1
model.language_model.layers.[0-1].mlp.down_proj.weight 64x96
model.language_model.layers.[0-1].mlp.gate_proj.weight 96x64
model.language_model.layers.[0-1].mlp.up_proj.weight 96x64
model.language_model.layers.[0-3].per_layer_input_gate.weight 32x64
model.language_model.layers.[0-3].per_layer_projection.weight 64x32
model.language_model.layers.[0-3].post_attention_layernorm.weight 64
model.language_model.layers.[0-3].post_feedforward_layernorm.weight 64
model.language_model.layers.[0-3].post_per_layer_input_norm.weight 64
model.language_model.layers.[0-3].pre_feedforward_layernorm.weight 64
model.language_model.layers.0.self_attn.k_norm.weight 32
model.language_model.layers.0.self_attn.k_proj.weight 64x64
model.language_model.layers.[0,2].self_attn.o_proj.weight 64x128
model.language_model.layers.[0,2].self_attn.q_norm.weight 32
model.language_model.layers.[0,2].self_attn.q_proj.weight 128x64
model.language_model.layers.0.self_attn.v_proj.weight 64x64
model.language_model.layers.1.self_attn.k_norm.weight 64
model.language_model.layers.1.self_attn.k_proj.weight 128x64
model.language_model.layers.[1,3].self_attn.o_proj.weight 64x256
model.language_model.layers.[1,3].self_attn.q_norm.weight 64
model.language_model.layers.[1,3].self_attn.q_proj.weight 256x64
model.language_model.layers.1.self_attn.v_proj.weight 128x64
model.language_model.layers.[2-3].mlp.down_proj.weight 64x192
model.language_model.layers.[2-3].mlp.gate_proj.weight 192x64
model.language_model.layers.[2-3].mlp.up_proj.weight 192x64
model.language_model.norm.weight 64
model.language_model.per_layer_model_projection.weight 128x64
model.language_model.per_layer_projection_norm.weight 32
model.vision_tower.encoder.layers.0.input_layernorm.weight 32
model.vision_tower.encoder.layers.0.mlp.down_proj.linear.weight 32x64
model.vision_tower.encoder.layers.0.mlp.gate_proj.linear.weight 64x32
model.vision_tower.encoder.layers.0.mlp.up_proj.linear.weight 64x32
model.vision_tower.encoder.layers.0.post_attention_layernorm.weight 32
model.vision_tower.encoder.layers.0.post_feedforward_layernorm.weight 32
model.vision_tower.encoder.layers.0.pre_feedforward_layernorm.weight 32
model.vision_tower.encoder.layers.0.self_attn.k_norm.weight 16
model.vision_tower.encoder.layers.0.self_attn.k_proj.linear.weight 32x32
model.vision_tower.encoder.layers.0.self_attn.o_proj.linear.weight 32x32
model.vision_tower.encoder.layers.0.self_attn.q_norm.weight 16
model.vision_tower.encoder.layers.0.self_attn.q_proj.linear.weight 32x32
model.vision_tower.encoder.layers.0.self_attn.v_proj.linear.weight 32x32
model.vision_tower.patch_embedder.input_proj.weight 32x48
model.vision_tower.patch_embedder.position_embedding_table 2x16x32
"""
CHECKPOINT = Checkpoint(CONFIG, TENSORS, GEMMA4, "-", made_by="transformers 5.24.0")
