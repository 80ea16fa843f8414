"""DeepseekV3ForCausalLM as released: FP8, config.json of its own code, a layer that predicts a token more."""

from convert_golden.classes.checkpoint import Checkpoint
from convert_golden.classes.fp8 import fp8
from convert_golden.classes.tokenizers import DEEPSEEK

CONFIG = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "auto_map": {
        "AutoConfig": "configuration_deepseek.DeepseekV3Config",
        "AutoModel": "modeling_deepseek.DeepseekV3Model",
        "AutoModelForCausalLM": "modeling_deepseek.DeepseekV3ForCausalLM",
    },
    "bos_token_id": 269,
    "eos_token_id": 270,
    "ep_size": 1,
    "first_k_dense_replace": 1,
    "hidden_act": "silu",
    "hidden_size": 160,
    "initializer_range": 0.02,
    "intermediate_size": 192,
    "kv_lora_rank": 64,
    "max_position_embeddings": 163840,
    "model_type": "deepseek_v3",
    "moe_intermediate_size": 32,
    "moe_layer_freq": 1,
    "n_group": 2,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_attention_heads": 4,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 2,
    "num_key_value_heads": 4,
    "num_nextn_predict_layers": 1,
    "q_lora_rank": 96,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 16,
    "quantization_config": {
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
        "quant_method": "fp8",
        "weight_block_size": [128, 128],
    },
    "rms_norm_eps": 1e-06,
    "rope_scaling": {
        "beta_fast": 32,
        "beta_slow": 1,
        "factor": 40,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
        "original_max_position_embeddings": 4096,
        "type": "yarn",
    },
    "rope_theta": 10000,
    "routed_scaling_factor": 2.5,
    "scoring_func": "sigmoid",
    "tie_word_embeddings": False,
    "topk_group": 1,
    "topk_method": "noaux_tc",
    "torch_dtype": "bfloat16",
    "transformers_version": "4.33.1",
    "use_cache": True,
    "v_head_dim": 32,
    "vocab_size": 288,
}
TENSORS = """
lm_head.weight 288x160
model.embed_tokens.weight 288x160
model.layers.[0-2].input_layernorm.weight 160
model.layers.0.mlp.down_proj.weight 160x192
model.layers.0.mlp.gate_proj.weight 192x160
model.layers.0.mlp.up_proj.weight 192x160
model.layers.[0-2].post_attention_layernorm.weight 160
model.layers.[0-2].self_attn.kv_a_layernorm.weight 64
model.layers.[0-2].self_attn.kv_a_proj_with_mqa.weight 80x160
model.layers.[0-2].self_attn.kv_b_proj.weight 256x64
model.layers.[0-2].self_attn.o_proj.weight 160x128
model.layers.[0-2].self_attn.q_a_layernorm.weight 96
model.layers.[0-2].self_attn.q_a_proj.weight 96x160
model.layers.[0-2].self_attn.q_b_proj.weight 192x96
model.layers.[1-2].mlp.experts.[0-3].down_proj.weight 160x32
model.layers.[1-2].mlp.experts.[0-3].gate_proj.weight 32x160
model.layers.[1-2].mlp.experts.[0-3].up_proj.weight 32x160
model.layers.[1-2].mlp.gate.e_score_correction_bias 4 F32
model.layers.[1-2].mlp.gate.weight 4x160
model.layers.[1-2].mlp.shared_experts.down_proj.weight 160x32
model.layers.[1-2].mlp.shared_experts.gate_proj.weight 32x160
model.layers.[1-2].mlp.shared_experts.up_proj.weight 32x160
model.layers.2.embed_tokens.weight 288x160
model.layers.2.enorm.weight 160
model.layers.2.hnorm.weight 160
model.layers.2.shared_head.head.weight 288x160
model.layers.2.shared_head.norm.weight 160
model.norm.weight 160
"""
# The one projection that is not in FP8.
RELEASED = """
model.layers.2.eh_proj.weight 160x320
"""
CHECKPOINT = Checkpoint(CONFIG, fp8(TENSORS), DEEPSEEK, "deepseek-v3", made_by="hand", variant="FP8", released=RELEASED)
