"""The architecture table: tensors and facts from config.json alone."""

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from convert_golden.models import config
from quantmill.architectures.checkpoint_tensors import tensors
from quantmill.architectures.errors import ModelError
from quantmill.architectures.metadata_keys import facts
from quantmill.architectures.rope_factors import llama3_factors
from quantmill.checkpoint.metadata import metadata
from quantmill.gguf import header_size

QWEN_32B = {
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 5120,
    "intermediate_size": 27648,
    "num_hidden_layers": 64,
    "num_attention_heads": 40,
    "num_key_value_heads": 8,
    "vocab_size": 152064,
}

QWEN_MIXTURE = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_hidden_layers": 94,
    "num_attention_heads": 64,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": 1536,
    "vocab_size": 151936,
}


def test_a_32b_model_is_described_without_weights() -> None:
    specs = tensors(QWEN_32B)
    assert len(specs) == 64 * 12 + 3
    assert sum(spec.n_elements for spec in specs) == 32_763_876_352
    size = sum(spec.type("BF16").row_bytes(spec.n_elements) for spec in specs)
    assert size == 65_529_991_168  # 65.54 GB with the header's 152k tokens
    assert header_size([], [(spec.name, spec.shape, spec.type("BF16")) for spec in specs]) < 60_000


def test_a_mixture_is_described_without_weights() -> None:
    specs = tensors(QWEN_MIXTURE)
    assert sum(spec.n_elements for spec in specs) == 235_093_634_560
    assert len(specs) == 94 * 12 + 3
    by_name = {spec.name: spec for spec in specs}
    assert by_name["blk.93.ffn_down_exps.weight"].shape == (1536, 4096, 128)
    assert len(by_name["blk.93.ffn_down_exps.weight"].sources) == 128
    assert by_name["blk.0.ffn_gate_inp.weight"].keep_f32
    found = {entry.key: entry.value for entry in facts(QWEN_MIXTURE, "BF16")}
    assert (found["qwen3moe.expert_count"], found["qwen3moe.expert_used_count"]) == (128, 8)
    with pytest.raises(
        ModelError, match=r"^config.json has layers without experts among those with; all need to have them$"
    ):
        tensors(QWEN_MIXTURE | {"mlp_only_layers": [3]})


def test_the_order_is_that_of_the_checkpoints_names() -> None:
    names = [spec.name for spec in tensors(config("Qwen2ForCausalLM", "qwen2") | {"num_hidden_layers": 11})]
    assert names[:4] == ["output.weight", "token_embd.weight", "blk.0.attn_norm.weight", "blk.0.ffn_down.weight"]
    assert names.index("blk.10.attn_norm.weight") < names.index("blk.2.attn_norm.weight")
    assert names[-1] == "output_norm.weight"


def test_norms_and_biases_stay_f32() -> None:
    kept = {spec.name.split(".1.")[-1] for spec in tensors(config("Qwen2ForCausalLM", "qwen2")) if spec.keep_f32}
    kept = {name for name in kept if not name.startswith("blk.0.")}
    assert kept == {"attn_norm.weight", "ffn_norm.weight", "attn_q.bias", "attn_k.bias", "attn_v.bias"} | {
        "output_norm.weight"
    }


@pytest.mark.parametrize(
    ("class_", "more", "present", "absent"),
    [
        ("Qwen2ForCausalLM", {"tie_word_embeddings": True}, "blk.0.attn_q.bias", "output.weight"),
        ("Qwen3ForCausalLM", {}, "blk.0.attn_q_norm.weight", "blk.0.attn_q.bias"),
        ("Qwen3ForCausalLM", {"attention_bias": True}, "blk.0.attn_output.bias", "rope_freqs.weight"),
        ("LlamaForCausalLM", {"mlp_bias": True}, "blk.0.ffn_down.bias", "blk.0.attn_q.bias"),
        ("LlamaForCausalLM", {"rope_scaling": {"rope_type": "llama3"}}, "rope_freqs.weight", "blk.0.ffn_down.bias"),
        ("LlamaForCausalLM", {"rope_parameters": {"rope_type": "llama3"}}, "rope_freqs.weight", "blk.0.ffn_down.bias"),
        ("MistralForCausalLM", {"attention_bias": True}, "output.weight", "blk.0.attn_q.bias"),
    ],
)
def test_optional_tensors(class_: str, more: dict[str, object], present: str, absent: str) -> None:
    names = {spec.name for spec in tensors(config(class_, "x", **more))}
    assert present in names
    assert absent not in names


def test_only_llamas_q_and_k_are_permuted() -> None:
    heads = {spec.name: spec.heads for spec in tensors(config("LlamaForCausalLM", "llama")) if spec.heads}
    wanted = {"q": 4, "k": 2}
    assert heads == {f"blk.{layer}.attn_{name}.weight": wanted[name] for layer in (0, 1) for name in wanted}
    assert not any(spec.heads for spec in tensors(config("Qwen3ForCausalLM", "qwen3")))


def test_both_spellings_of_rope_say_the_same() -> None:
    scaling = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    old = config("Qwen2ForCausalLM", "qwen2", rope_theta=1e6, rope_scaling=scaling)
    new = config("Qwen2ForCausalLM", "qwen2")
    new["rope_parameters"] = {"rope_theta": 1e6, "rope_type": "yarn", **scaling}
    assert list(facts(new, "BF16")) == list(facts(old, "BF16"))
    assert "qwen2.rope.scaling.original_context_length" in {entry.key for entry in facts(new, "BF16")}


def test_llama3_factors_are_those_of_llama_3_1() -> None:
    """Low frequencies by the factor, high ones kept; the values are PyTorch's for head_dim 128, base 500000."""
    found = {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}, "rope_theta": 500000.0, "head_dim": 128}
    factors = llama3_factors(found)
    assert (factors[0], factors[28], factors[-1]) == (1.0, 1.0, 8.0)
    assert all(value == struct.unpack("<f", struct.pack("<f", value))[0] for value in factors)
    assert factors == sorted(factors)
    with pytest.raises(
        ModelError, match=r"^config.json's `rope_scaling` has factors that are not positive or not in order$"
    ):
        llama3_factors({**found, "rope_scaling": {"rope_type": "llama3", "low_freq_factor": 4.0}})


@pytest.mark.parametrize("key", ["factor", "low_freq_factor", "high_freq_factor"])
@pytest.mark.parametrize("value", [None, "x", [8.0], True, 1e39, 10**40])
def test_a_factor_of_llama3_that_is_no_number_is_said(key: str, value: object) -> None:
    found = {"rope_scaling": {"rope_type": "llama3", key: value}, "rope_theta": 500000.0, "head_dim": 128}
    with pytest.raises(ModelError) as error:
        llama3_factors(found)
    assert str(error.value) == f"config.json's `rope_scaling.{key}` is {value!r}; a number would be right"


@pytest.mark.parametrize("scaling", [{"low_freq_factor": 1e-40}, {"low_freq_factor": 1e-60}, {"factor": 1e-60}])
def test_factors_of_llama3_beyond_float32_are_said(scaling: dict[str, float]) -> None:
    with pytest.raises(ModelError, match=r"^config.json's `rope_scaling` has factors that float32 cannot work with$"):
        llama3_factors({"rope_scaling": {"rope_type": "llama3", **scaling}, "rope_theta": 500000.0, "head_dim": 128})


def test_factors_of_llama3_are_seen_with_the_metadata(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps(config("LlamaForCausalLM", "llama", rope_scaling={"rope_type": "llama3", "factor": None}))
    )
    with pytest.raises(ModelError, match=r"^config.json's `rope_scaling.factor` is None; a number would be right$"):
        metadata({"config.json": tmp_path / "config.json"}, name="A-1B")


def test_the_table_costs_no_import() -> None:
    heavy = "[name for name in ('numpy', 'gguf', 'yaml') if name in sys.modules]"
    code = f"import sys, quantmill.architectures.checkpoint_tensors; print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
