"""Every key of config.json that transformers reads of further dense classes: used, without effect, or refused."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from architecture_helpers.config_tables import USED, WITHOUT
from convert_golden.models import config
from quantmill.architectures.configuration import hparams, notes
from quantmill.architectures.description import describe
from quantmill.architectures.known import ARCHITECTURES, CLASSES
from quantmill.architectures.rope_factors import GENERATED
from quantmill.errors import QuantmillError

READ = json.loads((Path(__file__).parent / "config_keys.json").read_text())
_SLIDING, _FULL = "sliding_attention", "full_attention"
_LINEAR = {"rope_type": "linear", "factor": 2.0}
_YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}
_BIAS, _GELU = {"attention_bias": [True]}, {"hidden_act": ["gelu", None]}
_WHOLE = {"partial_rotary_factor": [0.5]}
_MINISTRAL = _YARN | {"rope_theta": 1e6, "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1}
_LONG = {"type": "longrope", "long_factor": [1.0, 1.5] * 4, "short_factor": [1.0] * 8}
_NO_SCALING = {"rope_scaling": [_LINEAR, _YARN], "rope_parameters": [_LINEAR]}


@dataclass
class Keys:
    """`used` are values that show, of keys beside USED's; `of` are those of USED that others of the class need or that
    are refused; `one` are values that a file does not hold; `without` have no effect."""

    used: dict[str, Any]
    one: dict[str, list[Any]]
    base: dict[str, Any] = field(default_factory=dict)
    of: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


TABLE = {
    "SmolLM3ForCausalLM": Keys(
        {"tie_word_embeddings": False, "head_dim": 32},
        {
            **_BIAS,
            **_GELU,
            **_WHOLE,
            "mlp_bias": [True],
            "use_sliding_window": [True],
            "no_rope_layers": [[1, 0], [1], "odd"],
            "no_rope_layer_interval": [2],
        },
        without=("sliding_window", "layer_types"),
    ),
    "SeedOssForCausalLM": Keys(
        {"tie_word_embeddings": True, "head_dim": 32, "attention_bias": False},
        {**_GELU, **_WHOLE, "attention_out_bias": [True], "mlp_bias": [True]},
        without=("residual_dropout",),
    ),
    "Olmo2ForCausalLM": Keys(
        {},
        {**_BIAS, **_GELU, **_WHOLE, "head_dim": [32], "tie_word_embeddings": [True]},
        without=("sliding_window", "layer_types"),
    ),
    "Ernie4_5ForCausalLM": Keys(
        {"tie_word_embeddings": False, "head_dim": 32}, {**_GELU, **_WHOLE, "use_bias": [True]}
    ),
    "Exaone4ForCausalLM": Keys(
        {
            "tie_word_embeddings": True,
            "sliding_window": 100,
            "layer_types": [_FULL, _SLIDING],
            "sliding_window_pattern": 1,
        },
        {
            **_BIAS,
            **_GELU,
            **_WHOLE,
            "head_dim": [32],
            "layer_types": [[_FULL], "sliding", [_FULL, "odd"]],
            "sliding_window_pattern": [0, None, ""],
        },
        {"sliding_window": 512},
    ),
    "HunYuanDenseV1ForCausalLM": Keys(
        {"tie_word_embeddings": True, "head_dim": 32, "rope_scaling": {"type": "dynamic", "alpha": 1000.0}},
        {
            **_BIAS,
            **_GELU,
            **_WHOLE,
            "rope_scaling": [_LINEAR, _YARN, {"type": "dynamic"}, {"type": "dynamic", "alpha": 0}],
            "rope_parameters": [_LINEAR],
        },
        {"max_position_embeddings": 32768},
        of=("rope_scaling", "rope_parameters"),
        without=("eod_token_id",),
    ),
    "GraniteForCausalLM": Keys(
        {
            "tie_word_embeddings": True,
            "attention_bias": True,
            "mlp_bias": True,
            "attention_multiplier": 0.5,
            "embedding_multiplier": 0.5,
            "residual_multiplier": 0.5,
            "logits_scaling": 0.5,
        },
        {**_GELU, **_WHOLE, "head_dim": [32], "attention_multiplier": [0, None], "logits_scaling": [0, "odd"]},
    ),
    "Gemma2ForCausalLM": Keys(
        {"head_dim": 32, "sliding_window": 100, "attn_logit_softcapping": 20.0, "final_logit_softcapping": 20.0},
        {
            **_BIAS,
            **_WHOLE,
            **_NO_SCALING,
            "hidden_activation": ["silu"],
            "attn_logit_softcapping": [None, 0],
            "final_logit_softcapping": [None],
            "query_pre_attn_scalar": [32, None],
            "rope_theta": [5000.0],
            "tie_word_embeddings": [False],
            "layer_types": [[_FULL, _SLIDING], "sliding"],
            "sliding_window_pattern": [3],
            "use_bidirectional_attention": [True],
        },
        {"head_dim": 16, "sliding_window": 512},
        of=("rope_theta", "rope_scaling", "rope_parameters"),
        without=("hidden_act",),
    ),
    "Cohere2ForCausalLM": Keys(
        {"layer_norm_eps": 1e-3, "logit_scale": 0.5, "sliding_window": 100},
        {
            **_BIAS,
            **_GELU,
            **_WHOLE,
            **_NO_SCALING,
            "head_dim": [32],
            "rotary_pct": [0.5],
            "logit_scale": [0, None],
            "tie_word_embeddings": [False],
            "layer_types": [[_FULL, _SLIDING], "sliding"],
            "sliding_window_pattern": [3],
            "_sliding_window_pattern": [3],
        },
        of=("rms_norm_eps", "rope_scaling", "rope_parameters"),
        without=("rms_norm_eps",),
    ),
    "Phi3ForCausalLM": Keys(
        {
            "tie_word_embeddings": True,
            "original_max_position_embeddings": 1000,
            "partial_rotary_factor": 0.5,
            "sliding_window": 100,
            "rope_scaling": _LONG,
            "rope_parameters": {"rope_theta": 5000.0},
        },
        {
            **_GELU,
            "head_dim": [32],
            "partial_rotary_factor": [0, 2, None],
            "original_max_position_embeddings": [1, "odd"],
            "rope_scaling": [
                _LINEAR,
                _YARN,
                {**_LONG, "long_factor": [1.0]},
                {**_LONG, "short_factor": None},
                {**_LONG, "attention_factor": 3.0},
                {**_LONG, "long_mscale": 1.2},
            ],
        },
        of=("rope_scaling", "rope_parameters"),
        without=("embd_pdrop", "resid_pdrop"),
    ),
    "Glm4ForCausalLM": Keys(
        {
            "tie_word_embeddings": True,
            "head_dim": 32,
            "attention_bias": False,
            "partial_rotary_factor": 0.25,
        },
        {**_GELU, "partial_rotary_factor": [0, 2]},
        {"head_dim": 16},
        without=("ignore_keys_at_rope_validation",),
    ),
    "Ministral3ForCausalLM": Keys(
        {"tie_word_embeddings": True, "head_dim": 32, "rope_parameters": _MINISTRAL | {"factor": 2.0}},
        {
            **_GELU,
            **_WHOLE,
            "rope_parameters": [
                _LINEAR,
                _MINISTRAL | {"mscale": 2.0},
                _MINISTRAL | {"attention_factor": 1.3},
                _MINISTRAL | {"beta_fast": 8},
            ],
        },
        {"head_dim": 16, "model_type": "ministral3", "rope_parameters": _MINISTRAL},
        of=("rope_theta", "rope_scaling", "rope_parameters"),
        without=("sliding_window", "attention_bias"),
    ),
}
SCALINGS = {of.name: of.scalings for row in reversed(list(ARCHITECTURES.values())) for of in reversed(row.classes)}
SCALED = [name for name in CLASSES if name in TABLE and "linear" in SCALINGS[name]]
LLAMA3 = [name for name in SCALED if "llama3" in SCALINGS[name]]


def made(class_: str, **change: Any) -> dict[str, Any]:
    return config(class_, "any") | TABLE[class_].base | change


def result(stated: dict[str, Any]) -> Any:
    entries, tensors = describe(stated, "BF16")
    return [entry.encode() for entry in entries], tensors


@pytest.mark.parametrize("class_", TABLE)
def test_every_key_that_transformers_reads_is_told_of(class_: str) -> None:
    keys = TABLE[class_]
    told = {*USED, *keys.used, *keys.one, *keys.without, *WITHOUT}
    assert [key for key in READ["keys"][class_] if key not in told and not key.startswith("_")] == []


@pytest.mark.parametrize("class_", TABLE)
def test_what_is_used_shows(class_: str) -> None:
    plain, keys = result(made(class_)), TABLE[class_]
    for key, value in {**{key: value for key, value in USED.items() if key not in keys.of}, **keys.used}.items():
        assert result(made(class_, **{key: value})) != plain, key


@pytest.mark.parametrize("class_", TABLE)
def test_what_a_file_cannot_hold_is_refused_by_its_name(class_: str) -> None:
    for key, values in TABLE[class_].one.items():
        for value in values:
            with pytest.raises(QuantmillError, match=rf"^config\.json.*`{key}[`.]"):
                result(made(class_, **{key: value}))


@pytest.mark.parametrize("class_", TABLE)
def test_what_has_no_effect_has_none(class_: str) -> None:
    plain = result(made(class_))
    for key in [*WITHOUT, *TABLE[class_].without, "an_unheard_of_key"]:
        if key not in ("architectures", "model_type"):
            assert result(made(class_, **{key: False if key == "attention_bias" else "odd"})) == plain, key


@pytest.mark.parametrize("class_", TABLE)
def test_a_number_in_a_list_is_none(class_: str) -> None:
    """llama.cpp loads no file whose key is a list where it reads one number."""
    keys = TABLE[class_]
    for key, value in {**USED, **keys.used}.items():
        if key not in keys.of and isinstance(value, int | float) and not isinstance(value, bool):
            with pytest.raises(QuantmillError, match=rf"^config\.json's `{key}` "):
                result(made(class_, **{key: [value]}))


@pytest.mark.parametrize("class_", SCALED)
@pytest.mark.parametrize("spelled", ["type", "rope_type"])
@pytest.mark.parametrize("kind", ["linear", "yarn"])
def test_scaling_is_read_in_every_spelling(class_: str, spelled: str, kind: str) -> None:
    if class_ == "Ministral3ForCausalLM":
        return
    table = {spelled: kind, "factor": 4.0, "original_max_position_embeddings": 512}
    for key in ("rope_scaling", "rope_parameters"):
        entries, _ = describe(made(class_, **{key: table}), "BF16")
        found = {entry.key.rpartition(".rope.scaling.")[2]: entry.value for entry in entries if "scaling." in entry.key}
        assert found == {"type": kind, "factor": 4.0} | ({"original_context_length": 512} if kind == "yarn" else {})


@pytest.mark.parametrize("class_", TABLE)
@pytest.mark.parametrize("kind", ["dynamic", "longrope", "su", "mrope", "proportional", "llama3", "x", 5])
def test_other_scaling_is_refused(class_: str, kind: Any) -> None:
    if class_ in LLAMA3 and kind == "llama3":
        return
    with pytest.raises(QuantmillError, match=r"^config\.json's `rope_"):
        result(made(class_, rope_scaling={"rope_type": kind, "factor": 4.0}, rope_parameters=None))


@pytest.mark.parametrize("class_", LLAMA3)
def test_factors_of_llama3(class_: str) -> None:
    if class_ == "Ministral3ForCausalLM":
        return
    table = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    entries, tensors = describe(made(class_, rope_scaling=table), "BF16")
    assert tensors[0].name == "rope_freqs.weight"
    assert not [entry for entry in entries if "scaling" in entry.key and "rope" in entry.key]


def test_factors_of_a_long_context() -> None:
    stated = made("Phi3ForCausalLM", rope_scaling=_LONG, max_position_embeddings=131072)
    entries, tensors = describe(stated, "BF16")
    found = {entry.key: entry.value for entry in entries}
    assert found["phi3.rope.scaling.attn_factor"] == pytest.approx(1.190238, rel=1e-6)
    assert [tensor.name for tensor in tensors[:2]] == ["rope_factors_long.weight", "rope_factors_short.weight"]
    assert GENERATED["rope_factors_long.weight"](hparams(stated)) == _LONG["long_factor"]
    assert describe({**stated, "rope_scaling": {**_LONG, "type": "su"}}, "BF16") == (entries, tensors)


@pytest.mark.parametrize("class_", ["Ministral3ForCausalLM", "SeedOssForCausalLM"])
def test_an_original_context_in_a_list(class_: str) -> None:
    table = {**(_MINISTRAL if "Ministral" in class_ else _YARN), "original_max_position_embeddings": [512]}
    with pytest.raises(QuantmillError, match="original_max_position_embeddings` is \\[512\\]; a whole number"):
        result(made(class_, rope_parameters=table))


def test_hunyuans_base() -> None:
    alpha = {"type": "dynamic", "alpha": 1000.0}
    stated = made("HunYuanDenseV1ForCausalLM", rope_scaling=alpha, head_dim=128)
    found = {entry.key.removeprefix("hunyuan-dense."): entry.value for entry in describe(stated, "BF16")[0]}
    assert found["rope.freq_base"] == pytest.approx(11158839.925, rel=1e-8)
    assert (found["context_length"], found["rope.scaling.original_context_length"]) == (262144, 262144)
    for change in ({"rope_theta": 5000.0}, {"max_position_embeddings": 4096}):
        with pytest.raises(QuantmillError, match=r"^config\.json's `rope_theta` .* can be converted$"):
            describe(stated | change, "BF16")


def test_layers_without_positions_may_be_named() -> None:
    plain = made("SmolLM3ForCausalLM", num_hidden_layers=8)
    for change in ({"no_rope_layers": [1, 1, 1, 0] * 2}, {"no_rope_layer_interval": 4}):
        assert result(plain | change) == result(plain)


def test_what_is_said_and_not_refused() -> None:
    (window,) = notes(made("Phi3ForCausalLM", sliding_window=2047))
    assert window.startswith("config.json's `sliding_window` is 2047; llama.cpp's phi3 has no windows")
    assert notes(made("Phi3ForCausalLM")) == []
    (layers,) = notes(made("Exaone4ForCausalLM"))
    assert layers.startswith("config.json's `sliding_window` is 512; llama.cpp's exaone4 has no windows, and rotary")
    assert notes(made("Exaone4ForCausalLM", sliding_window=None)) == []
    assert notes(made("Exaone4ForCausalLM", num_hidden_layers=64)) == []
    (layers,) = notes(made("Exaone4ForCausalLM", num_hidden_layers=64, sliding_window=None))
    assert "exaone4 has windows in a model of 64 layers" in layers
    assert notes(made("Gemma2ForCausalLM", query_pre_attn_scalar=16)) == notes(made("HunYuanDenseV1ForCausalLM")) == []
    text = made("Ministral3ForCausalLM", sliding_window=None)
    images = {"architectures": ["Mistral3ForConditionalGeneration"], "text_config": text}
    (text_alone,) = notes(images)
    assert text_alone.startswith("the file holds the text model of Mistral3ForConditionalGeneration alone; its images")
