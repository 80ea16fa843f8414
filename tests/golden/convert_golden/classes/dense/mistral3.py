"""Mistral3ForConditionalGeneration, small."""

from convert_golden.classes.checkpoint import Checkpoint
from convert_golden.classes.tokenizers import MISTRAL

CONFIG = {
    "architectures": ["Mistral3ForConditionalGeneration"],
    "dtype": "bfloat16",
    "image_token_index": 274,
    "model_type": "mistral3",
    "multimodal_projector_bias": False,
    "projector_hidden_act": "gelu",
    "spatial_merge_size": 2,
    "text_config": {
        "attention_dropout": 0.0,
        "dtype": "bfloat16",
        "head_dim": 32,
        "hidden_act": "silu",
        "hidden_size": 64,
        "initializer_range": 0.02,
        "intermediate_size": 96,
        "max_position_embeddings": 131072,
        "model_type": "mistral",
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-05,
        "rope_theta": 1000000000.0,
        "sliding_window": None,
        "use_cache": True,
        "vocab_size": 288,
    },
    "transformers_version": "4.57.6",
    "vision_config": {
        "attention_dropout": 0.0,
        "dtype": "bfloat16",
        "head_dim": 16,
        "hidden_act": "gelu",
        "hidden_size": 32,
        "image_size": 28,
        "initializer_range": 0.02,
        "intermediate_size": 64,
        "model_type": "pixtral",
        "num_attention_heads": 2,
        "num_channels": 3,
        "num_hidden_layers": 1,
        "patch_size": 14,
        "rope_theta": 10000.0,
    },
    "vision_feature_layer": -1,
}
TENSORS = """
language_model.lm_head.weight 288x64
language_model.model.embed_tokens.weight 288x64
language_model.model.layers.[0-1].input_layernorm.weight 64
language_model.model.layers.[0-1].mlp.down_proj.weight 64x96
language_model.model.layers.[0-1].mlp.gate_proj.weight 96x64
language_model.model.layers.[0-1].mlp.up_proj.weight 96x64
language_model.model.layers.[0-1].post_attention_layernorm.weight 64
language_model.model.layers.[0-1].self_attn.k_proj.weight 64x64
language_model.model.layers.[0-1].self_attn.o_proj.weight 64x128
language_model.model.layers.[0-1].self_attn.q_proj.weight 128x64
language_model.model.layers.[0-1].self_attn.v_proj.weight 64x64
language_model.model.norm.weight 64
multi_modal_projector.linear_1.weight 64x32
multi_modal_projector.linear_2.weight 64x64
multi_modal_projector.norm.weight 32
multi_modal_projector.patch_merger.merging_layer.weight 32x128
vision_tower.ln_pre.weight 32
vision_tower.patch_conv.weight 32x3x14x14
vision_tower.transformer.layers.0.attention.k_proj.weight 32x32
vision_tower.transformer.layers.0.attention.o_proj.weight 32x32
vision_tower.transformer.layers.0.attention.q_proj.weight 32x32
vision_tower.transformer.layers.0.attention.v_proj.weight 32x32
vision_tower.transformer.layers.0.attention_norm.weight 32
vision_tower.transformer.layers.0.feed_forward.down_proj.weight 32x64
vision_tower.transformer.layers.0.feed_forward.gate_proj.weight 64x32
vision_tower.transformer.layers.0.feed_forward.up_proj.weight 64x32
vision_tower.transformer.layers.0.ffn_norm.weight 32
"""
CHECKPOINT = Checkpoint(CONFIG, TENSORS, MISTRAL, "tekken")
_LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
_SCALED = CONFIG["text_config"] | {"rope_theta": 500000.0, "rope_scaling": _LLAMA3}
SCALED = Checkpoint({**CONFIG, "text_config": _SCALED}, TENSORS, MISTRAL, "tekken", variant="llama3")
