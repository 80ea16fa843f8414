"""Fifteen models as they were released: their config.json's facts, and how many weights their pages say they have."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Released:
    """`weights`: of the text model, with the layers that a file holds; `plain`: of these, those that stay F32;
    `factors`: numbers of a tensor that no checkpoint has; `packed`: weights in MXFP4; `gigabytes`: of files, by ftype,
    as release pages have them."""

    config: dict[str, Any]
    weights: int
    plain: int
    factors: int = 0
    packed: int = 0
    gigabytes: tuple[tuple[str, float], ...] = ()


def _config(class_: str, width: int, layers: int, heads: int, groups: int, feed: int, **more: Any) -> dict[str, Any]:
    return {
        "architectures": [class_],
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "intermediate_size": feed,
        **more,
    }


_SILU = {"hidden_act": "silu", "rms_norm_eps": 1e-6}
_FP8 = {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": [128, 128]}
_DEEPSEEK = {
    **_SILU,
    "attention_bias": False,
    "ep_size": 1,
    "kv_lora_rank": 512,
    "moe_intermediate_size": 2048,
    "moe_layer_freq": 1,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_experts_per_tok": 8,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "quantization_config": _FP8,
    "scoring_func": "sigmoid",
    "seq_aux": True,
    "tie_word_embeddings": False,
    "topk_method": "noaux_tc",
    "v_head_dim": 128,
}
_YARN = {"mscale": 1.0, "mscale_all_dim": 1.0, "original_max_position_embeddings": 4096, "type": "yarn"}
_QWEN3_MOE = {
    **_SILU,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "norm_topk_prob": True,
    "tie_word_embeddings": False,
    "vocab_size": 151936,
}

RELEASED = {
    "Qwen2.5-0.5B": Released(
        _config("Qwen2ForCausalLM", 896, 24, 14, 2, 4864)
        | {**_SILU, "max_position_embeddings": 32768, "rope_theta": 1e6, "sliding_window": 32768}
        | {"max_window_layers": 24, "tie_word_embeddings": True, "use_sliding_window": False, "vocab_size": 151936},
        weights=494_032_768,
        plain=24 * (2 * 896 + 896 + 2 * 128) + 896,
    ),
    "LFM2-1.2B": Released(
        _config("Lfm2ForCausalLM", 2048, 16, 32, 8, 12288)
        | {"block_auto_adjust_ff_dim": True, "block_dim": 2048, "block_ff_dim": 12288, "block_ffn_dim_multiplier": 1.0}
        | {"block_multiple_of": 256, "conv_L_cache": 3, "conv_bias": False, "full_attn_idxs": [2, 5, 8, 10, 12, 14]}
        | {"max_position_embeddings": 128000, "norm_eps": 1e-5, "rope_theta": 1e6, "vocab_size": 65536},
        weights=1_170_340_608,
        plain=16 * 2 * 2048 + 6 * 2 * 64 + 10 * 2048 * 3 + 2048,
    ),
    "SmolLM3-3B": Released(
        _config("SmolLM3ForCausalLM", 2048, 36, 16, 4, 11008)
        | {**_SILU, "max_position_embeddings": 65536, "no_rope_layer_interval": 4, "no_rope_layers": [1, 1, 1, 0] * 9}
        | {"rope_theta": 5e6, "tie_word_embeddings": True, "vocab_size": 128256},
        weights=3_075_098_624,
        plain=36 * 2 * 2048 + 2048,
        gigabytes=(("Q4_K_M", 1.92), ("Q8_0", 3.28)),
    ),
    "gemma-3-4b-it": Released(
        {
            "architectures": ["Gemma3ForConditionalGeneration"],
            "text_config": {
                "hidden_size": 2560,
                "intermediate_size": 10240,
                "model_type": "gemma3_text",
                "num_hidden_layers": 34,
                "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
                "sliding_window": 1024,
            },
            "vision_config": {
                "hidden_size": 1152,
                "image_size": 896,
                "intermediate_size": 4304,
                "model_type": "siglip_vision_model",
                "num_attention_heads": 16,
                "num_hidden_layers": 27,
                "patch_size": 14,
                "vision_use_head": False,
            },
        },
        weights=4_300_079_472 - 419_816_304,  # without the vision tower and what projects its states
        plain=34 * (4 * 2560 + 2 * 256) + 2560,
        gigabytes=(("Q4_K_M", 2.49), ("Q6_K", 3.19), ("Q8_0", 4.13)),
    ),
    "Mistral-7B-v0.3": Released(
        _config("MistralForCausalLM", 4096, 32, 32, 8, 14336)
        | {"hidden_act": "silu", "max_position_embeddings": 32768, "rms_norm_eps": 1e-5, "rope_theta": 1e6}
        | {"sliding_window": None, "tie_word_embeddings": False, "vocab_size": 32768},
        weights=7_248_023_552,
        plain=32 * 2 * 4096 + 4096,
        gigabytes=(("Q2_K", 2.72), ("Q4_K_M", 4.37), ("Q5_K_M", 5.14), ("Q6_K", 5.95), ("Q8_0", 7.70)),
    ),
    "phi-4": Released(
        _config("Phi3ForCausalLM", 5120, 40, 40, 10, 17920)
        | {"hidden_act": "silu", "max_position_embeddings": 16384, "original_max_position_embeddings": 16384}
        | {"rms_norm_eps": 1e-5, "rope_scaling": None, "rope_theta": 250000, "sliding_window": None}
        | {"tie_word_embeddings": False, "vocab_size": 100352},
        weights=14_659_507_200,
        plain=40 * 2 * 5120 + 5120,
        gigabytes=(("Q4_K_M", 9.05), ("Q6_K", 12.03), ("Q8_0", 15.58)),
    ),
    "gpt-oss-20b": Released(
        _config("GptOssForCausalLM", 2880, 24, 64, 8, 2880)
        | {"attention_bias": True, "experts_per_token": 4, "head_dim": 64, "hidden_act": "silu", "rms_norm_eps": 1e-5}
        | {"initial_context_length": 4096, "layer_types": ["sliding_attention", "full_attention"] * 12}
        | {"max_position_embeddings": 131072, "num_experts_per_tok": 4, "num_local_experts": 32, "rope_theta": 150000}
        | {"sliding_window": 128, "swiglu_limit": 7.0, "tie_word_embeddings": False, "vocab_size": 201088}
        | {
            "rope_scaling": {
                "beta_fast": 32.0,
                "beta_slow": 1.0,
                "factor": 32.0,
                "rope_type": "yarn",
                "truncate": False,
            }
        }
        | {"quantization_config": {"modules_to_not_convert": ["lm_head"], "quant_method": "mxfp4"}},
        weights=20_914_757_184,
        plain=24 * (2 * 2880 + 4096 + 2 * 512 + 2880 + 64 + 2880 * 32 + 32 + 32 * 3 * 2880) + 2880,
        packed=24 * 32 * 3 * 2880 * 2880,
        gigabytes=(("BF16", 13.79), ("MXFP4_MOE", 12.11)),
    ),
    "Qwen3-30B-A3B": Released(
        _config("Qwen3MoeForCausalLM", 2048, 48, 32, 4, 6144)
        | {**_QWEN3_MOE, "head_dim": 128, "max_position_embeddings": 40960, "moe_intermediate_size": 768}
        | {"num_experts": 128, "num_experts_per_tok": 8, "rope_theta": 1e6, "sliding_window": None},
        weights=30_532_122_624,
        plain=48 * (2 * 2048 + 2 * 128 + 2048 * 128) + 2048,
        gigabytes=(("Q4_K_M", 18.56), ("Q6_K", 25.09), ("Q8_0", 32.48)),
    ),
    "Mixtral-8x7B": Released(
        _config("MixtralForCausalLM", 4096, 32, 32, 8, 14336)
        | {"hidden_act": "silu", "max_position_embeddings": 32768, "num_experts_per_tok": 2, "num_local_experts": 8}
        | {"rms_norm_eps": 1e-5, "rope_theta": 1e6, "tie_word_embeddings": False, "vocab_size": 32000},
        weights=46_702_792_704,
        plain=32 * (2 * 4096 + 4096 * 8) + 4096,
        gigabytes=(("Q8_0", 49.62),),
    ),
    "Llama-3.3-70B": Released(
        _config("LlamaForCausalLM", 8192, 80, 64, 8, 28672)
        | {"head_dim": 128, "hidden_act": "silu", "max_position_embeddings": 131072, "rms_norm_eps": 1e-5}
        | {"rope_scaling": {"factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "rope_type": "llama3"}}
        | {"rope_theta": 500000.0, "tie_word_embeddings": False, "vocab_size": 128256},
        weights=70_553_706_496,
        plain=80 * 2 * 8192 + 8192,
        factors=64,
        gigabytes=(
            *(("Q8_0", 74.98), ("Q6_K", 57.89), ("Q5_K_M", 49.95), ("Q5_K_S", 48.66), ("Q4_K_M", 42.52)),
            *(("Q4_K_S", 40.35), ("Q3_K_L", 37.14), ("Q3_K_M", 34.27), ("Q3_K_S", 30.91), ("Q2_K", 26.38)),
            *(("IQ4_XS", 37.90), ("IQ3_M", 31.94), ("IQ2_M", 24.12), ("IQ2_XXS", 19.10)),
        ),
    ),
    "Qwen3-Next-80B-A3B": Released(
        _config("Qwen3NextForCausalLM", 2048, 48, 16, 2, 5120)
        | {**_QWEN3_MOE, "full_attention_interval": 4, "head_dim": 256, "linear_conv_kernel_dim": 4}
        | {"linear_key_head_dim": 128, "linear_num_key_heads": 16, "linear_num_value_heads": 32}
        | {"linear_value_head_dim": 128, "max_position_embeddings": 262144, "moe_intermediate_size": 512}
        | {"num_experts": 512, "num_experts_per_tok": 10, "partial_rotary_factor": 0.25, "rope_theta": 1e7}
        | {"shared_expert_intermediate_size": 512},
        weights=81_324_862_720,  # with the layer that predicts a token more
        plain=49 * (2 * 2048 + 2048 * 512 + 2048) + 36 * (4 * 8192 + 32 + 32 + 128) + 13 * 2 * 256 + 3 * 2048 + 2048,
    ),
    "Llama-4-Scout": Released(
        {
            "architectures": ["Llama4ForConditionalGeneration"],
            "text_config": _config("", 5120, 48, 40, 8, 8192)
            | {"attention_bias": False, "attention_chunk_size": 8192, "attn_scale": 0.1, "attn_temperature_tuning": 4}
            | {"floor_scale": 8192, "head_dim": 128, "hidden_act": "silu", "interleave_moe_layer_step": 1}
            | {"intermediate_size_mlp": 16384, "max_position_embeddings": 10485760, "model_type": "llama4_text"}
            | {"num_experts_per_tok": 1, "num_local_experts": 16, "rms_norm_eps": 1e-5, "rope_theta": 500000.0}
            | {"rope_scaling": {"factor": 16.0, "high_freq_factor": 1.0, "low_freq_factor": 1.0, "rope_type": "llama3"}}
            | {"tie_word_embeddings": False, "use_qk_norm": True, "vocab_size": 202048},
            "vision_config": {"hidden_size": 1408, "image_size": 336, "num_hidden_layers": 34, "patch_size": 14},
        },
        weights=107_769_861_120,
        plain=48 * (2 * 5120 + 5120 * 16) + 5120,
        factors=64,
        gigabytes=(("Q8_0", 114.53), ("Q4_K_M", 65.36)),
    ),
    "GLM-4.5-Air": Released(
        _config("Glm4MoeForCausalLM", 4096, 46, 96, 8, 10944)
        | {"attention_bias": True, "first_k_dense_replace": 1, "head_dim": 128, "hidden_act": "silu"}
        | {"max_position_embeddings": 131072, "moe_intermediate_size": 1408, "n_group": 1, "n_routed_experts": 128}
        | {"n_shared_experts": 1, "norm_topk_prob": True, "num_experts_per_tok": 8, "num_nextn_predict_layers": 1}
        | {"partial_rotary_factor": 0.5, "rms_norm_eps": 1e-5, "rope_scaling": None, "rope_theta": 1e6}
        | {"routed_scaling_factor": 1.0, "tie_word_embeddings": False, "topk_group": 1, "use_qk_norm": False}
        | {"vocab_size": 151552},
        weights=110_468_824_832,  # with the layer that predicts a token more
        plain=47 * (2 * 4096 + 12288 + 2 * 1024) + 46 * (4096 * 128 + 128) + 3 * 4096 + 4096,
        gigabytes=(("Q8_0", 117.45),),
    ),
    "DeepSeek-V3": Released(
        _config("DeepseekV3ForCausalLM", 7168, 61, 128, 128, 18432)
        | {**_DEEPSEEK, "first_k_dense_replace": 3, "max_position_embeddings": 163840, "n_group": 8}
        | {"n_routed_experts": 256, "num_nextn_predict_layers": 1, "rope_theta": 10000, "topk_group": 4}
        | {"rope_scaling": {**_YARN, "beta_fast": 32, "beta_slow": 1, "factor": 40}}
        | {"routed_scaling_factor": 2.5, "vocab_size": 129280},
        weights=671_026_419_200,  # the layer that predicts a token more is left out, as by llama.cpp's converter
        plain=61 * (2 * 7168 + 1536 + 512) + 58 * (7168 * 256 + 256) + 7168,
        gigabytes=(("Q8_0", 713.29),),
    ),
    "Kimi-K2": Released(
        _config("DeepseekV3ForCausalLM", 7168, 61, 64, 64, 18432)
        | {**_DEEPSEEK, "first_k_dense_replace": 1, "max_position_embeddings": 131072, "n_group": 1}
        | {"n_routed_experts": 384, "num_nextn_predict_layers": 0, "rope_theta": 50000.0, "topk_group": 1}
        | {"rope_scaling": {**_YARN, "beta_fast": 1.0, "beta_slow": 1.0, "factor": 32.0}}
        | {"routed_scaling_factor": 2.827, "vocab_size": 163840},
        weights=1_026_408_232_448,
        plain=61 * (2 * 7168 + 1536 + 512) + 60 * (7168 * 384 + 384) + 7168,
    ),
}
