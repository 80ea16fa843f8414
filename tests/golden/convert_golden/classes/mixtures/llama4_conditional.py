"""Llama4ForConditionalGeneration, small."""

from convert_golden.classes.checkpoint import Checkpoint
from convert_golden.classes.tokenizers import LLAMA4

CONFIG = {
    "architectures": ["Llama4ForConditionalGeneration"],
    "boi_token_index": 200080,
    "dtype": "bfloat16",
    "eoi_token_index": 200081,
    "image_token_index": 200092,
    "model_type": "llama4",
    "text_config": {
        "attention_bias": False,
        "attention_chunk_size": 8192,
        "attention_dropout": 0.0,
        "attn_scale": 0.1,
        "attn_temperature_tuning": True,
        "bos_token_id": 269,
        "dtype": "bfloat16",
        "eos_token_id": [270, 271],
        "floor_scale": 8192,
        "head_dim": 32,
        "hidden_act": "silu",
        "hidden_size": 64,
        "initializer_range": 0.02,
        "interleave_moe_layer_step": 1,
        "intermediate_size": 32,
        "intermediate_size_mlp": 96,
        "layer_types": ["chunked_attention", "chunked_attention", "chunked_attention", "full_attention"],
        "max_position_embeddings": 131072,
        "model_type": "llama4_text",
        "moe_layers": [0, 1, 2, 3],
        "no_rope_layers": [1, 1, 1, 0],
        "num_attention_heads": 4,
        "num_experts_per_tok": 1,
        "num_hidden_layers": 4,
        "num_key_value_heads": 2,
        "num_local_experts": 4,
        "output_router_logits": False,
        "pad_token_id": 272,
        "rms_norm_eps": 1e-05,
        "rope_scaling": {
            "factor": 16.0,
            "high_freq_factor": 1.0,
            "low_freq_factor": 1.0,
            "original_max_position_embeddings": 8192,
            "rope_type": "llama3",
        },
        "rope_theta": 500000.0,
        "router_aux_loss_coef": 0.001,
        "router_jitter_noise": 0.0,
        "use_cache": True,
        "use_qk_norm": True,
        "vocab_size": 288,
    },
    "tie_word_embeddings": False,
    "transformers_version": "4.57.6",
    "vision_config": {
        "_vision_feature_layer": -1,
        "attention_dropout": 0.0,
        "dtype": "bfloat16",
        "hidden_act": "gelu",
        "hidden_size": 32,
        "image_size": 28,
        "initializer_range": 0.02,
        "intermediate_size": 128,
        "model_type": "llama4_vision_model",
        "multi_modal_projector_bias": False,
        "norm_eps": 1e-05,
        "num_attention_heads": 2,
        "num_channels": 3,
        "num_hidden_layers": 1,
        "patch_size": 14,
        "pixel_shuffle_ratio": 0.5,
        "projector_dropout": 0.0,
        "projector_input_dim": 64,
        "projector_output_dim": 64,
        "rope_theta": 10000,
        "vision_feature_select_strategy": "default",
        "vision_output_dim": 64,
    },
}
TENSORS = """
language_model.lm_head.weight 288x64
language_model.model.embed_tokens.weight 288x64
language_model.model.layers.[0-3].feed_forward.experts.down_proj 4x32x64
language_model.model.layers.[0-3].feed_forward.experts.gate_up_proj 4x64x64
language_model.model.layers.[0-3].feed_forward.router.weight 4x64
language_model.model.layers.[0-3].feed_forward.shared_expert.down_proj.weight 64x32
language_model.model.layers.[0-3].feed_forward.shared_expert.gate_proj.weight 32x64
language_model.model.layers.[0-3].feed_forward.shared_expert.up_proj.weight 32x64
language_model.model.layers.[0-3].input_layernorm.weight 64
language_model.model.layers.[0-3].post_attention_layernorm.weight 64
language_model.model.layers.[0-3].self_attn.k_proj.weight 64x64
language_model.model.layers.[0-3].self_attn.o_proj.weight 64x128
language_model.model.layers.[0-3].self_attn.q_proj.weight 128x64
language_model.model.layers.[0-3].self_attn.v_proj.weight 64x64
language_model.model.norm.weight 64
multi_modal_projector.linear_1.weight 64x64
vision_model.class_embedding 32
vision_model.layernorm_post.bias 32
vision_model.layernorm_post.weight 32
vision_model.layernorm_pre.bias 32
vision_model.layernorm_pre.weight 32
vision_model.model.layers.0.input_layernorm.bias 32
vision_model.model.layers.0.input_layernorm.weight 32
vision_model.model.layers.0.mlp.fc1.bias 128
vision_model.model.layers.0.mlp.fc1.weight 128x32
vision_model.model.layers.0.mlp.fc2.bias 32
vision_model.model.layers.0.mlp.fc2.weight 32x128
vision_model.model.layers.0.post_attention_layernorm.bias 32
vision_model.model.layers.0.post_attention_layernorm.weight 32
vision_model.model.layers.0.self_attn.k_proj.bias 32
vision_model.model.layers.0.self_attn.k_proj.weight 32x32
vision_model.model.layers.0.self_attn.o_proj.bias 32
vision_model.model.layers.0.self_attn.o_proj.weight 32x32
vision_model.model.layers.0.self_attn.q_proj.bias 32
vision_model.model.layers.0.self_attn.q_proj.weight 32x32
vision_model.model.layers.0.self_attn.v_proj.bias 32
vision_model.model.layers.0.self_attn.v_proj.weight 32x32
vision_model.patch_embedding.linear.weight 32x588
vision_model.positional_embedding_vlm 5x32
vision_model.vision_adapter.mlp.fc1.weight 64x128
vision_model.vision_adapter.mlp.fc2.weight 64x64
"""
CHECKPOINT = Checkpoint(CONFIG, TENSORS, LLAMA4, "llama4")
