"""Every key of config.json that transformers reads of DeepSeek's and the hybrid classes: used, refused, or harmless."""

import json
from pathlib import Path
from typing import Any

import pytest

from architecture_helpers.config_tables import WITHOUT
from convert_golden.classes.registry import CHECKPOINTS
from quantmill.architectures.configuration import notes
from quantmill.architectures.description import describe
from quantmill.errors import QuantmillError

READ = json.loads((Path(__file__).parent / "config_keys.json").read_text())
# Beside hybrid_override_pattern, how the scan is divided, older names, and what training begins with.
_NEMOTRON = [
    "layer_types",
    "layers_block_type",
    "mtp_hybrid_override_pattern",
    "mtp_layers_block_type",
    "chunk_size",
    "mamba_chunk_size",
    "expand",
    "mamba_expand",
    "hidden_dropout",
    "mamba_conv_bias",
    "mamba_d_conv",
    "mamba_dt_init_floor",
    "mamba_dt_limit",
    "mamba_dt_max",
    "mamba_dt_min",
    "mamba_n_groups",
    "mamba_ssm_cache_dtype",
    "num_logits_to_keep",
    "rescale_prenorm_residual",
    "residual_in_fp32",
    "time_step_floor",
    "time_step_max",
    "time_step_min",
    "use_mamba_kernels",
]
_NO_MIXTURE = [
    "moe_intermediate_size",
    "moe_latent_size",
    "moe_shared_expert_intermediate_size",
    "moe_shared_expert_overlap",
    "n_group",
    "n_routed_experts",
    "n_shared_experts",
    "num_local_experts",
    "routed_scaling_factor",
    "topk_group",
]
# Keys without effect: training's, how work is divided, and what others say too.
HARMLESS = {
    "DeepseekV2ForCausalLM": ("aux_loss_alpha", "seq_aux"),
    "DeepseekV2ForCausalLM-Lite": ("aux_loss_alpha", "seq_aux"),
    "DeepseekV3ForCausalLM": ("num_mtp_layers", "num_nextn_predict_layers"),  # layers that are left out
    "Lfm2ForCausalLM": ("full_attn_idxs", "theta"),  # beside layer_types and rope_theta
    "Qwen3NextForCausalLM": ("ignore_keys_at_rope_validation",),
    # partial_rotary_factor: beside that of rope_parameters
    "Qwen3_5ForCausalLM": ("ignore_keys_at_rope_validation", "partial_rotary_factor"),
    "Qwen3_5MoeForCausalLM": ("ignore_keys_at_rope_validation", "partial_rotary_factor"),
    "Gemma4ForCausalLM": ("num_experts", "partial_rotary_factor", "top_k_experts"),
    "Gemma4ForCausalLM-MoE": ("partial_rotary_factor", "vocab_size_per_layer_input"),
    "NemotronHForCausalLM": (*_NEMOTRON, *_NO_MIXTURE),
    "NemotronHForCausalLM-MoE": (*_NEMOTRON, "moe_shared_expert_overlap"),
    "GraniteMoeHybridForCausalLM": ("layers_block_type", "mamba_chunk_size"),
    "GraniteMoeHybridForCausalLM-Dense": ("layers_block_type", "mamba_chunk_size"),
    "GraniteMoeHybridForCausalLM-Attention": ("layers_block_type", "mamba_chunk_size"),
    "FalconH1ForCausalLM": (
        *("layer_types", "layers_block_type", "mamba_chunk_size", "mamba_expand", "mamba_norm_before_gate"),
        "num_logits_to_keep",
    ),
    "Gemma3nForConditionalGeneration": ("altup_coef_clip",),
}
VALUES: tuple[Any, ...] = (True, False, 5, 2, "odd", 0.5, None, [1], {"a": 1})
FULL, SLIDING = "full_attention", "sliding_attention"
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("DeepseekV2ForCausalLM", {"topk_method": "noaux_tc"}, "topk_method"),
    ("DeepseekV2ForCausalLM", {"q_lora_rank": None}, "q_lora_rank"),
    ("DeepseekV2ForCausalLM-Lite", {"q_lora_rank": 32}, "q_lora_rank"),
    ("DeepseekV2ForCausalLM", {"n_group": 2}, "n_group"),
    ("DeepseekV2ForCausalLM", {"scoring_func": "sigmoid"}, "scoring_func"),
    ("DeepseekV2ForCausalLM", {"num_key_value_heads": 2}, "num_key_value_heads"),
    ("DeepseekV3ForCausalLM", {"rope_interleave": False}, "rope_interleave"),
    ("DeepseekV3ForCausalLM", {"qk_head_dim": 32}, "qk_head_dim"),
    ("DeepseekV3ForCausalLM", {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_scaling"),
    ("Lfm2ForCausalLM", {"conv_bias": True}, "conv_bias"),
    ("Lfm2ForCausalLM", {"layer_types": ["conv"]}, "layer_types"),
    ("Qwen3NextForCausalLM", {"norm_topk_prob": False}, "norm_topk_prob"),
    ("Qwen3NextForCausalLM", {"linear_value_head_dim": 32}, "linear_value_head_dim"),
    ("Qwen3_5ForCausalLM", {"attn_output_gate": False}, "attn_output_gate"),
    ("Qwen3_5ForCausalLM", {"mtp_num_hidden_layers": 2}, "mtp_num_hidden_layers"),
    ("Qwen3_5ForCausalLM", {"rope_parameters": {"rope_theta": 1e7, "partial_rotary_factor": 0.25}}, "rope_parameters"),
    ("FalconH1ForCausalLM", {"key_multiplier": None}, "key_multiplier"),
    ("FalconH1ForCausalLM", {"mlp_multipliers": [1.0]}, "mlp_multipliers"),
    ("FalconH1ForCausalLM", {"mamba_rms_norm": True}, "mamba_norm_before_gate"),
    ("FalconH1ForCausalLM", {"tie_word_embeddings": True}, "tie_word_embeddings"),
    ("GraniteMoeHybridForCausalLM", {"position_embedding_type": "rope"}, "position_embedding_type"),
    ("GraniteMoeHybridForCausalLM-Dense", {"shared_intermediate_size": 64}, "shared_intermediate_size"),
    ("GraniteMoeHybridForCausalLM-Attention", {"position_embedding_type": "nope"}, "position_embedding_type"),
    ("GraniteMoeHybridForCausalLM-Dense", {"num_experts_per_tok": 8}, "num_experts_per_tok"),
    ("NemotronHForCausalLM", {"mlp_hidden_act": "silu"}, "mlp_hidden_act"),
    ("NemotronHForCausalLM", {"hybrid_override_pattern": "ME*E"}, "hybrid_override_pattern"),
    ("NemotronHForCausalLM", {"time_step_limit": [0.0, 1.0]}, "time_step_limit"),
    ("NemotronHForCausalLM-MoE", {"moe_latent_size": 16}, "moe_latent_size"),
    ("NemotronHForCausalLM-MoE", {"num_nextn_predict_layers": 1}, "num_nextn_predict_layers"),
    ("Gemma4ForCausalLM", {"per_layer_config": {"1": {"head_dim": 64}}}, "per_layer_config"),
    ("Gemma4ForCausalLM", {"global_head_dim": 32}, "global_head_dim"),
    ("Gemma4ForCausalLM", {"use_bidirectional_attention": "all"}, "use_bidirectional_attention"),
    ("Gemma4ForCausalLM", {"vocab_size_per_layer_input": 100}, "vocab_size_per_layer_input"),
    ("Gemma4ForCausalLM", {"rope_parameters": {FULL: {"rope_type": "default"}}}, "rope_parameters.full_attention"),
    ("Gemma4ForCausalLM-MoE", {"layer_types": [SLIDING] * 2 + [FULL]}, "per_layer_config"),
]


def result(stated: dict[str, Any]) -> Any:
    entries, tensors = describe(stated, "BF16")
    return [entry.encode() for entry in entries], tensors


def changed(name: str, **change: Any) -> dict[str, Any]:
    """The class's small model with keys of other values, of the text model where there are several."""
    stated = dict(CHECKPOINTS[name].config)
    if "text_config" in stated:
        return stated | {"text_config": {**stated["text_config"], **change}}
    return stated | change


def outcome(name: str, key: str, value: Any, plain: Any) -> str:
    try:
        return "the same" if result(changed(name, **{key: value})) == plain else "another"
    except QuantmillError:
        return "refused"


@pytest.mark.parametrize("name", HARMLESS)
def test_every_key_that_transformers_reads_shows_or_is_refused(name: str) -> None:
    plain = result(changed(name))
    keys = [key for key in READ["keys"][CHECKPOINTS[name].class_] if key not in WITHOUT and not key.startswith("_")]
    harmless = {key for key in keys if all(outcome(name, key, value, plain) == "the same" for value in VALUES)}
    assert harmless == set(HARMLESS[name])


@pytest.mark.parametrize(("name", "change", "said"), REFUSED)
def test_what_a_file_cannot_hold_is_refused_by_its_name(name: str, change: dict[str, Any], said: str) -> None:
    with pytest.raises(QuantmillError, match=rf"^config\.json.*`{said}"):
        result(changed(name, **change))


def test_layers_may_be_told_in_another_way() -> None:
    for name, change in (
        ("Lfm2ForCausalLM", {"layer_types": None, "full_attn_idxs": [2]}),
        ("NemotronHForCausalLM-MoE", {"hybrid_override_pattern": None, "layers_block_type": "mamba moe attention moe"}),
        ("Gemma4ForCausalLM", {"per_layer_config": None, "global_head_dim": 64}),
        ("Gemma4ForCausalLM-MoE", {"per_layer_config": None, "global_head_dim": 64, "num_global_key_value_heads": 1}),
        ("Qwen3NextForCausalLM", {"layer_types": None}),
    ):
        listed = {key: value.split() if isinstance(value, str) else value for key, value in change.items()}
        assert result(changed(name, **listed)) == result(changed(name)), name


def test_what_is_said_and_not_refused() -> None:
    said = notes(changed("Gemma3nForConditionalGeneration"))
    assert any("`num_kv_shared_layers` is 1 of 3 layers; llama.cpp's gemma3n computes keys" in note for note in said)


def test_what_llama_cpp_computes_otherwise_is_noted() -> None:
    said = notes(CHECKPOINTS["DeepseekV2ForCausalLM-Groups"].config)
    assert [note.partition(";")[2].partition(" ")[2] for note in said] == [
        "llama.cpp's deepseek2 computes by 32",
        "llama.cpp's deepseek2 takes those with the best two",
    ]
    assert notes(CHECKPOINTS["DeepseekV2ForCausalLM"].config) == []
