"""Gemma3nForConditionalGeneration, small: the text model's tensors, and some of the other models'."""

from convert_golden.classes.checkpoint import Checkpoint
from convert_golden.classes.tokenizers import GEMMA

TEXT = {
    "activation_sparsity_pattern": [0.95, 0.95, 0.0],
    "altup_active_idx": 0,
    "altup_coef_clip": 120.0,
    "altup_correct_scale": True,
    "altup_num_inputs": 4,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 2,
    "dtype": "bfloat16",
    "eos_token_id": 1,
    "final_logit_softcapping": 30.0,
    "head_dim": 32,
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 64,
    "hidden_size_per_layer_input": 256,
    "initializer_range": 0.02,
    "intermediate_size": [96, 96, 96],
    "laurel_rank": 64,
    "layer_types": ["sliding_attention", "full_attention", "full_attention"],
    "max_position_embeddings": 32768,
    "model_type": "gemma3n_text",
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "num_key_value_heads": 2,
    "num_kv_shared_layers": 1,
    "pad_token_id": 0,
    "rms_norm_eps": 1e-06,
    "rope_local_base_freq": 10000.0,
    "rope_scaling": None,
    "rope_theta": 1000000.0,
    "sliding_window": 512,
    "use_cache": True,
    "vocab_size": 288,
    "vocab_size_per_layer_input": 272,
}
TENSORS = """
model.language_model.altup_projections.[0-2].weight 64x64
model.language_model.altup_unembed_projections.[0-2].weight 64x64
model.language_model.embed_tokens.weight 288x64
model.language_model.embed_tokens_per_layer.weight 272x768
model.language_model.layers.[0-2].altup.correct_output_scale 64
model.language_model.layers.[0-2].altup.correction_coefs.weight 4x4
model.language_model.layers.[0-2].altup.modality_router.weight 4x64
model.language_model.layers.[0-2].altup.prediction_coefs.weight 16x4
model.language_model.layers.[0-2].altup.router_norm.weight 64
model.language_model.layers.[0-2].input_layernorm.weight 64
model.language_model.layers.[0-2].laurel.linear_left.weight 64x64
model.language_model.layers.[0-2].laurel.linear_right.weight 64x64
model.language_model.layers.[0-2].laurel.post_laurel_norm.weight 64
model.language_model.layers.[0-2].mlp.down_proj.weight 64x96
model.language_model.layers.[0-2].mlp.gate_proj.weight 96x64
model.language_model.layers.[0-2].mlp.up_proj.weight 96x64
model.language_model.layers.[0-2].per_layer_input_gate.weight 256x64
model.language_model.layers.[0-2].per_layer_projection.weight 64x256
model.language_model.layers.[0-2].post_attention_layernorm.weight 64
model.language_model.layers.[0-2].post_feedforward_layernorm.weight 64
model.language_model.layers.[0-2].post_per_layer_input_norm.weight 64
model.language_model.layers.[0-2].pre_feedforward_layernorm.weight 64
model.language_model.layers.[0-2].self_attn.k_norm.weight 32
model.language_model.layers.[0-2].self_attn.k_proj.weight 64x64
model.language_model.layers.[0-2].self_attn.o_proj.weight 64x128
model.language_model.layers.[0-2].self_attn.q_norm.weight 32
model.language_model.layers.[0-2].self_attn.q_proj.weight 128x64
model.language_model.layers.[0-2].self_attn.v_proj.weight 64x64
model.language_model.norm.weight 64
model.language_model.per_layer_model_projection.weight 768x64
model.language_model.per_layer_projection_norm.weight 256
"""
CONFIG = {
    "architectures": ["Gemma3nForConditionalGeneration"],
    "audio_config": {"hidden_size": 64, "model_type": "gemma3n_audio", "vocab_offset": 280, "vocab_size": 8},
    "audio_token_id": 287,
    "boa_token_id": 286,
    "boi_token_id": 285,
    "dtype": "bfloat16",
    "eoa_token_id": 284,
    "eoi_token_id": 283,
    "eos_token_id": [1, 7],
    "image_token_id": 282,
    "initializer_range": 0.02,
    "model_type": "gemma3n",
    "text_config": TEXT,
    "transformers_version": "4.57.6",
    "vision_config": {"hidden_size": 64, "model_type": "gemma3n_vision", "vocab_offset": 272, "vocab_size": 8},
    "vision_soft_tokens_per_image": 256,
}
RELEASED = """
model.audio_tower.conformer.0.norm.weight 64
model.embed_audio.embedding.weight 8x64
model.embed_audio.embedding_projection.weight 64x64
model.embed_vision.embedding.weight 8x64
model.embed_vision.embedding_projection.weight 64x64
model.vision_tower.timm_model.conv_stem.conv.weight 32x3x3x3
"""
CHECKPOINT = Checkpoint(CONFIG, TENSORS, GEMMA, made_by="hand", released=RELEASED)
