"""Every key of config.json that transformers reads of mixtures (MiniMax M2's are the released ones): used or refused.

Keys that change no file of any class are left out of the list (architecture_helpers/config_tables.py).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from convert_golden.classes.registry import CHECKPOINTS
from quantmill.architectures.checkpoint_tensors import tensors
from quantmill.architectures.configuration import hparams
from quantmill.architectures.description import describe
from quantmill.architectures.errors import ModelError
from quantmill.errors import QuantmillError

READ = json.loads((Path(__file__).parent / "mixture_config_keys.json").read_text())["keys"]
USED: dict[str, Any] = {
    "vocab_size": 320,
    "max_position_embeddings": 999,
    "rms_norm_eps": 1e-3,
    "rope_theta": 5000.0,
    "num_experts_per_tok": 3,
}
# Other values show or are refused by their names, with what else a class needs.
SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
_ACT, _LINEAR = {"hidden_act": ["gelu", None]}, {"rope_type": "linear", "factor": 2.0}


@dataclass
class Keys:
    """`used` show, `one` are refused, `without` have no effect."""

    used: dict[str, Any]
    one: dict[str, list[Any]]
    without: tuple[str, ...] = ()


TABLE = {
    "MixtralForCausalLM": Keys(
        {"num_local_experts": 8, "tie_word_embeddings": True, "head_dim": 32},
        _ACT,
        ("router_jitter_noise", "sliding_window"),
    ),
    "Qwen2MoeForCausalLM": Keys(
        {
            "num_experts": 8,
            "moe_intermediate_size": 64,
            "shared_expert_intermediate_size": 32,
            "rope_scaling": _LINEAR,
        },
        {
            **_ACT,
            "norm_topk_prob": [True],
            "qkv_bias": [False],
            "decoder_sparse_step": [2],
            "mlp_only_layers": [[0]],
            "tie_word_embeddings": [True],
        },
        ("use_sliding_window", "sliding_window", "max_window_layers"),
    ),
    "GptOssForCausalLM": Keys(
        {"num_local_experts": 8, "head_dim": 64, "sliding_window": 64, "rope_scaling": None},
        {
            **_ACT,
            "attention_bias": [False],
            "swiglu_limit": [5.0],
            "layer_types": [["full_attention", "sliding_attention"]],
            "tie_word_embeddings": [True],
        },
    ),
    "Glm4MoeForCausalLM": Keys(
        {
            "n_routed_experts": 8,
            "n_shared_experts": 2,
            "moe_intermediate_size": 64,
            "first_k_dense_replace": 2,
            "n_group": 2,
            "topk_group": 2,
            "routed_scaling_factor": 1.5,
            "partial_rotary_factor": 0.25,
            "attention_bias": False,
            "use_qk_norm": False,
            "tie_word_embeddings": True,
            "head_dim": 64,
            "num_nextn_predict_layers": 1,
            "rope_scaling": _LINEAR,
        },
        {**_ACT, "norm_topk_prob": [False]},
    ),
    "MiniMaxM2ForCausalLM": Keys(
        {"num_local_experts": 8, "head_dim": 64, "rotary_dim": 32},
        {
            **_ACT,
            "rotary_dim": [15, 64, None],
            "attn_type_list": [[1, 0]],
            "qk_norm_type": ["per_head"],
            "scoring_func": ["softmax"],
            "shared_intermediate_size": [32],
            "use_qk_norm": [False],
            "use_routing_bias": [False],
            "tie_word_embeddings": [True],
        },
        ("router_jitter_noise", "num_mtp_modules"),
    ),
    "Ernie4_5_MoeForCausalLM": Keys(
        {"moe_num_experts": 8, "moe_k": 3, "moe_layer_start_index": 2, "tie_word_embeddings": False},
        {
            **_ACT,
            "use_bias": [True],
            "moe_layer_interval": [2],
            "moe_layer_end_index": [1],
            "moe_norm_min": [0.1],
            "moe_num_shared_experts": [1, -1],
            "moe_intermediate_size": [64],
        },
        ("num_experts", "num_experts_per_tok", "rope_scaling"),
    ),
    "GraniteMoeForCausalLM": Keys(
        {
            "num_local_experts": 8,
            "attention_bias": True,
            "attention_multiplier": 0.5,
            "embedding_multiplier": 2.0,
            "residual_multiplier": 0.5,
            "logits_scaling": 2.0,
            "tie_word_embeddings": False,
            "rope_scaling": _LINEAR,
        },
        {**_ACT, "position_embedding_type": ["nope"]},
    ),
    "Llama4ForCausalLM": Keys(
        {
            "num_local_experts": 8,
            "head_dim": 64,
            "intermediate_size_mlp": 64,
            "tie_word_embeddings": True,
            "rope_scaling": _LINEAR,
        },
        {
            **_ACT,
            "attention_bias": [True],
            "attention_chunk_size": [4096],
            "attn_scale": [0.2],
            "attn_temperature_tuning": [False],
            "floor_scale": [4096],
            "interleave_moe_layer_step": [0, "odd"],
            "layer_types": [["full_attention"] * 4],
            "moe_layers": [[0]],
            "no_rope_layers": [[1, 1, 1, 1]],
            "use_qk_norm": [False],
        },
        ("router_jitter_noise", "vision_feature_layer", "no_rope_layer_interval"),
    ),
}


def result(class_: str, **change: Any) -> Any:
    entries, tensors = describe({**CHECKPOINTS[class_].config, **change}, "BF16")
    return [entry.encode() for entry in entries], tensors


@pytest.mark.parametrize("class_", TABLE)
def test_every_key_is_told_of(class_: str) -> None:
    keys = TABLE[class_]
    told = {*USED, *SIZES, *keys.used, *keys.one, *keys.without, "rope_scaling"}
    assert [key for key in READ[class_].split() if key not in told] == []


@pytest.mark.parametrize("class_", TABLE)
def test_what_is_used_shows(class_: str) -> None:
    plain, keys = result(class_), TABLE[class_]
    for key, value in {**USED, **keys.used}.items():
        if key not in keys.without:
            assert result(class_, **{key: value}) != plain, key


@pytest.mark.parametrize("class_", TABLE)
def test_sizes_show_or_are_refused(class_: str) -> None:
    plain = result(class_)
    for key in SIZES:
        try:
            found = result(class_, **{key: 2 * CHECKPOINTS[class_].config[key]})
        except QuantmillError as error:
            found = str(error)
        assert found != plain, key
        assert not isinstance(found, str) or found.startswith("config.json"), key


@pytest.mark.parametrize("class_", TABLE)
def test_what_a_file_cannot_hold_is_refused(class_: str) -> None:
    for key, values in TABLE[class_].one.items():
        for value in values:
            with pytest.raises(QuantmillError, match=r"^config\.json") as error:
                result(class_, **{key: value})
            said = {
                "decoder_sparse_step": "layers without experts",
                "mlp_only_layers": "layers without experts",
                "moe_num_shared_experts": "shared",
                "moe_intermediate_size": "shared experts",
                "tie_word_embeddings": "tie_word_embeddings",
            }.get(key, f"`{key}`")
            assert said in str(error.value), (key, value)


@pytest.mark.parametrize("class_", TABLE)
def test_other_rope_scaling_is_refused(class_: str) -> None:
    for kind in ("dynamic", "longrope", "mrope", 5):
        with pytest.raises(QuantmillError, match=r"^config\.json's `rope_scaling"):
            result(class_, rope_scaling={"rope_type": kind, "factor": 2.0})


@pytest.mark.parametrize(
    ("groups", "chosen"),
    [(2, 0), (2, 2), (2, None), (3, 1), (64, 1), ("2", 1), (2, True)],
    ids=lambda value: repr(value),
)
def test_groups_of_experts_that_llama_cpp_does_not_load(groups: object, chosen: object) -> None:
    config = CHECKPOINTS["DeepseekV3ForCausalLM"].config | {"n_group": groups, "topk_group": chosen}
    with pytest.raises(ModelError, match=r"^config\.json has \d+ experts in groups, `n_group` "):
        hparams(config)


def test_experts_that_nothing_says_how_to_score() -> None:
    config = {key: value for key, value in CHECKPOINTS["MiniMaxM2ForCausalLM"].config.items() if key != "scoring_func"}
    with pytest.raises(ModelError, match=r"^config\.json lacks `scoring_func`, without which"):
        hparams(config)


@pytest.mark.parametrize(
    ("name", "key"),
    [("Glm4MoeForCausalLM", "first_k_dense_replace"), ("Qwen2MoeForCausalLM", "shared_expert_intermediate_size")],
)
def test_a_size_in_a_list_is_none(name: str, key: str) -> None:
    config = CHECKPOINTS[name].config
    with pytest.raises(
        ModelError, match=rf"^config\.json's `{key}` is \[{config[key]}\]; a whole number would be right"
    ):
        tensors(config | {key: [config[key]]})


def test_a_key_that_llama_cpp_needs() -> None:
    config = CHECKPOINTS["Ernie4_5_MoeForCausalLM"].config | {"moe_layer_interval": None}
    with pytest.raises(
        ModelError, match=r"^config\.json gives no ernie4_5-moe\.interleave_moe_layer_step, without which"
    ):
        describe(config, "F32")
