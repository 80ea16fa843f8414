"""Small models of DeepSeek's and the hybrid architectures, so that each of their operations shows."""

from dataclasses import replace
from typing import Any

from forward_models import Small

_WIDE = {"attention.key_length": 32, "attention.value_length": 32}
_DELTA: dict[str, Any] = {
    **_WIDE,
    "rope.dimension_count": 8,
    "ssm.conv_kernel": 4,
    "ssm.state_size": 16,
    "ssm.group_count": 2,
    "ssm.time_step_rank": 4,
    "ssm.inner_size": 64,
    "attention.recurrent_layers": [True, False, True, False],
    "full_attention_interval": 2,
}
_SECTIONS = {"rope.dimension_sections": [2, 1, 1, 0]}
_SHARED = {
    "expert_count": 8,
    "expert_used_count": 3,
    "expert_feed_forward_length": 32,
    "expert_shared_feed_forward_length": 48,
}
_MAMBA = {
    "ssm.conv_kernel": 4,
    "ssm.state_size": 16,
    "ssm.group_count": 2,
    "ssm.time_step_rank": 4,
    "ssm.inner_size": 64,
}
_COMPRESSED = {
    "attention.key_length": 48,
    "attention.value_length": 32,
    "attention.q_lora_rank": 32,
    "attention.kv_lora_rank": 32,
    "attention.key_length_mla": 40,
    "attention.value_length_mla": 24,
    "rope.dimension_count": 16,
    "leading_dense_block_count": 1,
    "expert_count": 8,
    "expert_used_count": 3,
    "expert_feed_forward_length": 32,
    "expert_shared_count": 2,
    "expert_weights_scale": 1.5,
}
_YARN = {
    "rope.scaling.type": "yarn",
    "rope.scaling.factor": 4.0,
    "rope.scaling.original_context_length": 64,
    "rope.scaling.yarn_log_multiplier": 0.0707,
}
_SCALES = {"attention.scale": 0.4, "embedding_scale": 12.0, "residual_scale": 0.22, "logit_scale": 8.0}
_GRANITE: dict[str, Any] = {"attention.head_count_kv": [0, 2, 0], "rope.scaling.finetuned": False, **_MAMBA, **_SCALES}
_GRANITE |= {"ssm.inner_size": 128, "ssm.time_step_rank": 8}
_NEMOTRON = {"attention.layer_norm_epsilon": 1e-5, "rope.scaling.finetuned": False, **_WIDE, **_MAMBA}
_GEMMA4: dict[str, Any] = {
    **_WIDE,
    "rope.freq_base": 1e6,
    "attention.key_length_swa": 16,
    "attention.value_length_swa": 16,
    "rope.dimension_count_swa": 16,
    "attention.sliding_window": 40,
    "final_logit_softcapping": 5.0,
}
_GEMMA3N: dict[str, Any] = {
    "attention.key_length": 8,
    "attention.value_length": 8,
    "rope.freq_base": 1e6,
    "attention.sliding_window": 40,
    "attention.sliding_window_pattern": [layer % 5 < 4 for layer in range(21)] + [False],
    "attention.shared_kv_layers": 2,
    "embedding_length_per_layer_input": 256,
    "altup.num_inputs": 4,
}

HYBRID_MODELS = {
    "deepseek2": Small("deepseek2", layers=3, heads_kv=1, keys=_COMPRESSED, without=("exp_probs",)),
    "deepseek2-yarn": Small(
        "deepseek2",
        layers=3,
        heads_kv=1,
        keys={
            **_COMPRESSED,
            **_YARN,
            "expert_gating_func": 2,
            "expert_weights_norm": True,
            "expert_group_count": 4,
            "expert_group_used_count": 2,
        },
    ),
    "deepseek2-groups": Small(  # as DeepSeek V2, which has no biases of scores
        "deepseek2",
        layers=3,
        heads_kv=1,
        keys={**_COMPRESSED, "expert_gating_func": 1, "expert_group_count": 4, "expert_group_used_count": 2},
        without=("exp_probs",),
    ),
    "lfm2": Small("lfm2", layers=3, keys={"attention.head_count_kv": [0, 2, 0], "shortconv.l_cache": 3}),
    "qwen3next": Small("qwen3next", layers=4, keys={**_DELTA, **_SHARED}),
    "qwen3next-many": Small(
        "qwen3next",
        keys={
            **_DELTA,
            "attention.recurrent_layers": [True, False],
            **_SHARED,
            "expert_count": 300,
            "expert_used_count": 10,
        },
    ),
    "qwen35": Small("qwen35", layers=4, keys={**_DELTA, **_SECTIONS}),
    "qwen35moe": Small("qwen35moe", layers=4, keys={**_DELTA, **_SECTIONS, **_SHARED}),
    "falcon-h1": Small("falcon-h1", keys={**_MAMBA, "attention.key_length": 16, "attention.value_length": 16}),
    "granitehybrid": Small("granitehybrid", layers=3, keys={**_GRANITE, "expert_shared_feed_forward_length": 96}),
    "granitehybrid-mixture": Small(
        "granitehybrid", layers=3, keys={**_GRANITE, **_SHARED, "feed_forward_length": 32}, without=("output.weight",)
    ),
    "nemotron_h": Small(
        "nemotron_h",
        layers=4,
        keys={**_NEMOTRON, "attention.head_count_kv": [0, 0, 2, 0], "feed_forward_length": [0, 96, 0, 0]},
    ),
    "nemotron_h_moe": Small(
        "nemotron_h_moe",
        layers=4,
        keys={
            **_NEMOTRON,
            **_SHARED,
            "expert_shared_count": 1,
            "expert_weights_norm": True,
            "expert_weights_scale": 2.5,
            "expert_group_count": 1,
            "expert_group_used_count": 1,
            "attention.head_count_kv": [0, 0, 2, 0],
            "feed_forward_length": [0, 32, 0, 32],
        },
    ),
    "gemma4": Small(
        "gemma4",
        layers=5,
        keys={
            **_GEMMA4,
            "attention.sliding_window_pattern": [True, True, False, True, False],
            "attention.shared_kv_layers": 2,
            "embedding_length_per_layer_input": 32,
            "feed_forward_length": [96, 96, 96, 192, 192],
        },
    ),
    "gemma4-mixture": Small(
        "gemma4",
        layers=3,
        keys={
            **_GEMMA4,
            "attention.sliding_window_pattern": [True, False, False],
            "attention.head_count_kv": [2, 1, 1],
            "embedding_length_per_layer_input": 0,
            "expert_count": 8,
            "expert_used_count": 3,
            "expert_feed_forward_length": 32,
        },
        without=("output.weight", "blk.1.attn_v"),
    ),
    "gemma3n": Small("gemma3n", layers=22, embd=32, ff=48, heads=2, heads_kv=1, keys=_GEMMA3N),
}

# Those that the runtime has, with rows of whole groups of 32, which its kernels need.
_WHOLE = {"expert_shared_feed_forward_length": 64, "attention.key_length_mla": 48}
RUN_MODELS = {
    name: replace(small, keys={key: _WHOLE.get(key, value) for key, value in small.keys.items()})
    for name, small in HYBRID_MODELS.items()
    if not name.startswith("gemma")
}
