"""Every key of config.json that transformers reads of our architectures: used, without effect, or refused."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from architecture_helpers.config_tables import USED, WITHOUT
from convert_golden.models import config
from quantmill.architectures.configuration import hparams, notes
from quantmill.architectures.description import describe
from quantmill.architectures.known import CLASSES
from quantmill.architectures.rope_factors import llama3_factors
from quantmill.errors import QuantmillError
from quantmill.reference.llama_cpp.b4867 import B4867

READ = json.loads((Path(__file__).parent / "config_keys.json").read_text())

_MOE = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "norm_topk_prob": True}
_GEMMA = {"head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 512}
BASE: dict[str, dict[str, Any]] = {
    "Qwen2ForCausalLM": {},
    "Qwen3ForCausalLM": {"head_dim": 16},
    "Qwen3MoeForCausalLM": {"head_dim": 16, **_MOE},
    "LlamaForCausalLM": {},
    "MistralForCausalLM": {"sliding_window": None},
    "Gemma3ForCausalLM": {**_GEMMA, "tie_word_embeddings": True},
}
USED_BY: dict[str, dict[str, Any]] = {
    "Qwen2ForCausalLM": {"tie_word_embeddings": True},
    "Qwen3ForCausalLM": {"tie_word_embeddings": True, "head_dim": 32},
    "Qwen3MoeForCausalLM": {
        "num_experts": 4,
        "num_local_experts": 8,
        "num_experts_per_tok": 3,
        "moe_intermediate_size": 64,
        "head_dim": 32,
    },
    "LlamaForCausalLM": {"tie_word_embeddings": True, "head_dim": 32, "attention_bias": True, "mlp_bias": True},
    "MistralForCausalLM": {"tie_word_embeddings": True, "head_dim": 32},
    "Gemma3ForCausalLM": {"tie_word_embeddings": False, "sliding_window": 100},
}
# What a GGUF file has one value of: others are refused.
_WINDOW = {"use_sliding_window": True, "sliding_window": 100, "max_window_layers": 1}
_SLIDING, _FULL = "sliding_attention", "full_attention"
ONE: dict[str, list[Any]] = {"partial_rotary_factor": [0.5]}
ONE_BY: dict[str, dict[str, list[Any]]] = {
    "Qwen2ForCausalLM": {"hidden_act": ["gelu", "relu"]},
    "Qwen3ForCausalLM": {"hidden_act": ["gelu_pytorch_tanh"], "attention_bias": [True, "yes"]},
    "Qwen3MoeForCausalLM": {
        "hidden_act": ["gelu"],
        "attention_bias": [True],
        "norm_topk_prob": [False, None],
        "decoder_sparse_step": [2],
        "mlp_only_layers": [[0]],
        "tie_word_embeddings": [True],
    },
    "LlamaForCausalLM": {"hidden_act": ["gelu", "relu", None]},
    "MistralForCausalLM": {"hidden_act": ["gelu"]},
    "Gemma3ForCausalLM": {
        "hidden_activation": ["silu", "gelu"],
        "attention_bias": [True],
        "attn_logit_softcapping": [50.0],
        "final_logit_softcapping": [30.0],
        "head_dim": [32],  # beside the scalar of the attention
        "query_pre_attn_scalar": [32, None],
        "rope_local_base_freq": [5000.0],
        "sliding_window_pattern": [2],
        "_sliding_window_pattern": [3],
        "layer_types": [[_FULL, _SLIDING], [_FULL], "sliding"],
        "use_bidirectional_attention": [True],
    },
}
# Windows: refused together, each key without effect alone.
TOGETHER = ("use_sliding_window", "sliding_window", "max_window_layers", "layer_types")


def made(class_: str, **change: Any) -> dict[str, Any]:
    return config(class_, "x") | BASE[class_] | change


def result(stated: Mapping[str, Any]) -> Any:
    entries, tensors = describe(stated, "BF16", reference=B4867)
    return [entry.encode() for entry in entries], tensors


@pytest.mark.parametrize("class_", BASE)
def test_every_key_that_transformers_reads_is_told_of(class_: str) -> None:
    told = {*USED, *USED_BY[class_], *ONE, *ONE_BY[class_], *WITHOUT, *TOGETHER}
    assert [key for key in READ["keys"][class_] if key not in told and not key.startswith("_")] == []
    assert len(READ["transformers"]) > 1


@pytest.mark.parametrize("class_", BASE)
def test_what_is_used_shows(class_: str) -> None:
    plain = result(made(class_))
    for key, value in {**USED, **USED_BY[class_]}.items():
        change = {key: value}
        if key == "num_local_experts":  # the newer spelling, in the place of the older
            change = {"num_local_experts": 4, "num_experts": None}
        if class_ == "Gemma3ForCausalLM" and key in ("hidden_size", "num_attention_heads"):
            change["query_pre_attn_scalar"] = 16
        if class_ == "Qwen2ForCausalLM" and key == "hidden_size":
            change["head_dim"] = None
        assert result(made(class_, **change)) != plain, key


@pytest.mark.parametrize("class_", BASE)
def test_what_a_file_cannot_hold_is_refused_by_its_name(class_: str) -> None:
    for key, values in {**ONE, **ONE_BY[class_]}.items():
        for value in values:
            with pytest.raises(QuantmillError) as error:
                result(made(class_, **{key: value}))
            said = "query_pre_attn_scalar" if (class_, key) == ("Gemma3ForCausalLM", "head_dim") else key
            said = "layers without experts" if key in ("decoder_sparse_step", "mlp_only_layers") else f"`{said}`"
            assert said in str(error.value), (key, value)
            assert str(error.value).startswith("config.json"), (key, value)


@pytest.mark.parametrize("class_", BASE)
def test_what_has_no_effect_has_none(class_: str) -> None:
    plain = result(made(class_))
    for key in [*WITHOUT, "an_unheard_of_key", "quantization_mode"]:
        if key != "architectures":
            assert result(made(class_, **{key: "odd"})) == plain, key


@pytest.mark.parametrize("class_", [name for name in BASE if name.startswith("Qwen")])
@pytest.mark.parametrize(
    ("change", "refused"),
    [
        ({"sliding_window": 100, "max_window_layers": 1}, False),
        ({**_WINDOW}, True),
        ({**_WINDOW, "use_sliding_window": False}, False),
        ({**_WINDOW, "sliding_window": None}, False),
        ({**_WINDOW, "sliding_window": 32768}, False),  # as long as the context
        ({**_WINDOW, "max_window_layers": 2}, False),  # of two layers
        ({**_WINDOW, "layer_types": [_FULL, _FULL]}, False),
        ({**_WINDOW, "max_window_layers": 2, "layer_types": [_FULL, _SLIDING]}, True),
    ],
)
def test_windows_that_llama_cpp_does_not_know(class_: str, change: dict[str, Any], refused: bool) -> None:
    if not refused:
        assert result(made(class_, **change)) == result(made(class_))
        return
    with pytest.raises(QuantmillError, match=r"^config\.json asks for a window of 100 tokens"):
        result(made(class_, **change))


def test_gemmas_own_layers_may_be_named() -> None:
    kinds = [_FULL if (layer + 1) % 6 == 0 else _SLIDING for layer in range(8)]
    plain = made("Gemma3ForCausalLM", num_hidden_layers=8)
    for change in ({"layer_types": kinds}, {"sliding_window_pattern": 6}, {"_sliding_window_pattern": 6}):
        assert result({**plain, **change}) == result(plain)


YARN = {"factor": 4.0, "original_max_position_embeddings": 512}


@pytest.mark.parametrize("class_", [name for name in BASE if name != "Gemma3ForCausalLM"])
@pytest.mark.parametrize("spelled", ["type", "rope_type"])
@pytest.mark.parametrize("table", ["rope_scaling", "rope_parameters"])
@pytest.mark.parametrize("kind", ["linear", "yarn"])
def test_scaling_is_read_in_every_spelling(class_: str, spelled: str, table: str, kind: str) -> None:
    entries, _ = describe(made(class_, **{table: {spelled: kind, **YARN}}), "BF16")
    arch = CLASSES[class_][0]
    found = {entry.key.removeprefix(f"{arch}.rope."): entry.value for entry in entries if ".rope.scaling." in entry.key}
    more = {"scaling.original_context_length": 512} if kind == "yarn" else {}
    assert found == {"scaling.type": kind, "scaling.factor": 4.0, **more}


@pytest.mark.parametrize("class_", BASE)
@pytest.mark.parametrize(
    "table",
    [
        *({"rope_type": kind, **YARN} for kind in ("dynamic", "longrope", "su", "mrope", "proportional", "x", 5)),
        {"type": "dynamic", "factor": 2.0},
        {"rope_type": "linear"},
        *({"rope_type": "linear", "factor": factor} for factor in (0, -1, None, "2", True)),
        *({"rope_type": "yarn", **YARN, key: value} for key, value in {"beta_fast": 8, "beta_slow": 2}.items()),
        *({"rope_type": "yarn", **YARN, key: value} for key, value in {"mscale": 1, "mscale_all_dim": 1}.items()),
        {"rope_type": "yarn", **YARN, "truncate": False},
        {"rope_type": "yarn", **YARN, "attention_factor": 1.0},
        {"rope_type": "default", "partial_rotary_factor": 0.5},
        *([{"rope_type": "yarn", **YARN}]),
    ],
    ids=lambda table: " ".join(map(str, table.values())),
)
def test_other_scaling_is_refused(class_: str, table: dict[str, Any]) -> None:
    if table == {"rope_type": "yarn", **YARN} and class_ != "Gemma3ForCausalLM":
        return
    for key in ("rope_scaling", "rope_parameters"):
        if key == "rope_scaling" and "partial_rotary_factor" in table:
            continue
        with pytest.raises(QuantmillError, match=rf"^config\.json's `{key}"):
            result(made(class_, **{key: table}))


def test_what_yarn_may_say_beside_its_factor() -> None:
    usual = {"beta_fast": 32, "beta_slow": 1.0, "truncate": True, "attention_factor": 1.1386294361119891}
    table = {"rope_type": "yarn", **YARN}
    expected = result(made("Qwen3ForCausalLM", rope_scaling=table))
    assert result(made("Qwen3ForCausalLM", rope_scaling=table | usual)) == expected
    outside = {"factor": 4.0, "rope_type": "yarn"}
    assert result(made("Qwen3ForCausalLM", rope_scaling=outside, original_max_position_embeddings=512)) == expected
    entries, _ = describe(made("Qwen3ForCausalLM", rope_scaling=outside), "BF16")
    assert not [entry for entry in entries if "original" in entry.key]


@pytest.mark.parametrize("class_", [name for name in BASE if CLASSES[name][0] != "llama"])
def test_only_llama_has_llama3s_factors(class_: str) -> None:
    with pytest.raises(QuantmillError, match=r"^config\.json's `rope_scaling` is "):
        result(made(class_, rope_scaling={"rope_type": "llama3", "factor": 8.0}))


def test_llama3s_original_context_is_read_where_it_stands() -> None:
    table = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    inside, said = table | {"original_max_position_embeddings": 1024}, {"original_max_position_embeddings": 1024}
    factors = llama3_factors(hparams(made("LlamaForCausalLM", rope_scaling=inside)))
    assert factors == llama3_factors(hparams(made("LlamaForCausalLM", rope_scaling=table, **said)))
    assert factors == llama3_factors(hparams(made("LlamaForCausalLM", rope_parameters=inside)))
    assert factors != llama3_factors(hparams(made("LlamaForCausalLM", rope_scaling=table)))


def test_gemmas_local_base() -> None:
    full = {"rope_type": "default", "rope_theta": 1e6}
    for local, good in (
        ({"rope_type": "default", "rope_theta": 10000.0}, True),
        (None, True),
        (full, False),
        (5, False),
    ):
        stated = made("Gemma3ForCausalLM", rope_parameters={"full_attention": full, "sliding_attention": local})
        if good:
            assert result(stated) == result(made("Gemma3ForCausalLM"))
            continue
        with pytest.raises(QuantmillError, match=r"^config\.json's `rope_parameters\.sliding_attention` is "):
            result(stated)


@pytest.mark.parametrize(
    ("class_", "change"),
    [
        ("Qwen3MoeForCausalLM", {"num_experts": 8, "num_local_experts": 16}),
        ("LlamaForCausalLM", {"rope_theta": 1e4, "rope_parameters": {"rope_theta": 1e5}}),
    ],
)
def test_two_spellings_that_differ_are_refused(class_: str, change: dict[str, Any]) -> None:
    with pytest.raises(QuantmillError, match=r"two spellings of one fact; the same number in both would be right$"):
        result(made(class_, **change))


def test_the_newer_spelling_of_experts() -> None:
    old = made("Qwen3MoeForCausalLM")
    new = {key: value for key, value in old.items() if key != "num_experts"} | {"num_local_experts": 8}
    assert result(new) == result(old) == result(old | {"num_local_experts": 8})
    assert hparams(new)["num_experts"] == 8
    assert result(made("LlamaForCausalLM", num_local_experts=8, num_experts_per_tok=2)) == result(
        made("LlamaForCausalLM")
    )


@pytest.mark.parametrize("key", ["logit_scale", "attention_multiplier", "residual_multiplier", "embedding_multiplier"])
def test_what_other_architectures_compute_is_refused(key: str) -> None:
    with pytest.raises(QuantmillError, match=rf"^config\.json's `{key}` is 0\.1; llama "):
        result(made("LlamaForCausalLM", **{key: 0.1}))
    assert result(made("LlamaForCausalLM", **{key: None})) == result(made("LlamaForCausalLM"))


def test_what_is_said_and_not_refused() -> None:
    assert notes(made("Qwen2ForCausalLM")) == notes(made("Gemma3ForCausalLM")) == []
    (window,) = notes(made("MistralForCausalLM", sliding_window=4096))
    assert window.startswith("config.json's `sliding_window` is 4096; llama.cpp's llama has no windows")
    assert notes(made("MistralForCausalLM", sliding_window=4096, max_position_embeddings=4096)) == []
    unsaid = made("Qwen3MoeForCausalLM")
    del unsaid["norm_topk_prob"]
    assert notes(unsaid) == ["config.json does not say `norm_topk_prob`; transformers takes False, llama.cpp True"]
    unsaid = made("Gemma3ForCausalLM")
    del unsaid["query_pre_attn_scalar"]
    assert notes(unsaid) == ["config.json does not say `query_pre_attn_scalar`; transformers takes 256, llama.cpp 16"]
    images = {"architectures": ["Gemma3ForConditionalGeneration"], "text_config": made("Gemma3ForCausalLM")}
    (text_alone,) = notes(images)
    assert text_alone.startswith("the file holds the text model of Gemma3ForConditionalGeneration alone; its images")
