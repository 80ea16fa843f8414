"""The forms that a file may give its tensors: joined matrices, scales and biases; computed, or refused by name."""

from pathlib import Path

import numpy as np
import pytest

from architecture_helpers.dense_models import DENSE_MODELS
from architecture_helpers.hybrid_models import HYBRID_MODELS
from forward_models import MODELS, VOCABULARY, Small, metadata, weights, write
from quantmill.architectures.errors import ForwardError
from quantmill.architectures.hyperparameters import hyper
from quantmill.architectures.loading import check_loadable
from quantmill.engine.evaluation import Run, evaluate, open_model
from quantmill.gguf import Writer, kv, read
from quantmill.gguf.known_names import unlisted
from quantmill.gguf.layout import TensorEntry
from quantmill.gguf.types import TYPES
from quantmill.runtime.layer_plan import CannotRun
from quantmill.runtime.loader import load

SMALL = MODELS | DENSE_MODELS | HYBRID_MODELS
IDS = np.random.default_rng(3).integers(0, VOCABULARY, (1, 32)).astype(np.int32)
JOINED = {"attn_qkv": ("attn_q", "attn_k", "attn_v"), "ffn_gate_up_exps": ("ffn_gate_exps", "ffn_up_exps")}
Arrays = dict[str, np.ndarray]


def values(name: str) -> Arrays:
    return {tensor: array for tensor, _, array in weights(SMALL[name])}


def save(small: Small, arrays: Arrays, path: Path) -> Path:
    entries = [TensorEntry(name, array.shape[::-1], TYPES["F32"]) for name, array in arrays.items()]
    with Writer(path, metadata(small), entries) as writer:
        for array in arrays.values():
            writer.append(np.ascontiguousarray(array, np.float32).tobytes())
    return path


def joined(arrays: Arrays, whole: str) -> Arrays:
    """The tensors, of which several are one."""
    out, parts = dict(arrays), JOINED[whole]
    for prefix in {name.rpartition(parts[0])[0] for name in arrays if f".{parts[0]}." in name}:
        for kind in ("weight", "bias"):
            found = [out.pop(f"{prefix}{part}.{kind}") for part in parts if f"{prefix}{part}.{kind}" in out]
            if found:
                out[f"{prefix}{whole}.{kind}"] = np.concatenate(found, axis=found[0].ndim // 3)
    return out


def same_bits(one: np.ndarray, other: np.ndarray) -> None:
    assert one.tobytes() == other.tobytes()


def logits(path: Path) -> np.ndarray:
    with open_model(path) as model, evaluate(model, IDS, Run()) as hidden:
        return np.array(hidden.logits(0, 1))


@pytest.mark.parametrize("name", ["qwen2", "llama", "qwen3moe", "gemma3", "falcon-h1", "nemotron_h", "lfm2"])
def test_queries_keys_and_values_may_be_one_matrix(name: str, tmp_path: Path) -> None:
    apart = save(SMALL[name], values(name), tmp_path / "apart.gguf")
    one = save(SMALL[name], joined(values(name), "attn_qkv"), tmp_path / "one.gguf")
    same_bits(logits(one), logits(apart))
    run = [load(path, context=64).evaluate(IDS[0], 0, every=True) for path in (apart, one)]
    same_bits(run[1], run[0])


@pytest.mark.parametrize("name", ["qwen3next", "qwen35moe", "deepseek2", "qwen3moe"])
def test_gates_and_what_goes_up_may_be_one_stack(name: str, tmp_path: Path) -> None:
    apart = save(SMALL[name], values(name), tmp_path / "apart.gguf")
    one = save(SMALL[name], joined(values(name), "ffn_gate_up_exps"), tmp_path / "one.gguf")
    same_bits(logits(one), logits(apart))
    if name == "qwen3moe":  # the others' rows are too short for these kernels
        run = [load(path, context=64).evaluate(IDS[0], 0, every=True) for path in (apart, one)]
        same_bits(run[1], run[0])


def test_one_matrix_may_be_three(tmp_path: Path) -> None:
    """A phi3 of llama.cpp may have its queries, keys and values apart, with biases."""
    arrays = values("phi3")
    whole = save(SMALL["phi3"], arrays, tmp_path / "whole.gguf")
    apart = {}
    for name, array in arrays.items():
        if name.endswith("attn_qkv.weight"):
            for part, rows in zip(JOINED["attn_qkv"], np.split(array, [64, 64 + (len(array) - 64) // 2]), strict=True):
                apart[name.replace("attn_qkv", part)] = rows
        else:
            apart[name] = array
    same_bits(logits(save(SMALL["phi3"], apart, tmp_path / "apart.gguf")), logits(whole))
    biased = apart | {"blk.0.attn_q.bias": np.ones(64)}
    assert not np.array_equal(logits(save(SMALL["phi3"], biased, tmp_path / "biased.gguf")), logits(whole))


@pytest.mark.parametrize("name", ["attn_q", "attn_output", "ffn_up", "ffn_gate", "ffn_down"])
def test_a_scale_multiplies_what_its_matrix_makes(name: str, tmp_path: Path) -> None:
    arrays = values("llama")
    scaled = arrays | {f"blk.1.{name}.scale": np.full(1, 4.0), f"blk.1.{name}.input_scale": np.full(1, 3.0)}
    times = arrays | {f"blk.1.{name}.weight": arrays[f"blk.1.{name}.weight"] * 4}
    files = [save(SMALL["llama"], each, tmp_path / f"{index}.gguf") for index, each in enumerate((scaled, times))]
    same_bits(logits(files[0]), logits(files[1]))
    with pytest.raises(CannotRun, match="which these kernels have no use for"):
        load(files[0])


def test_experts_have_scales_of_their_own(tmp_path: Path) -> None:
    arrays, small = values("qwen3moe"), SMALL["qwen3moe"]
    scales = np.array([2.0, 0.5] * 4)
    for part in ("ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"):
        name = f"blk.0.{part}"
        scaled = save(small, arrays | {f"{name}.scale": scales}, tmp_path / "scaled.gguf")
        times = arrays[f"{name}.weight"] * scales[:, None, None]
        same_bits(logits(scaled), logits(save(small, arrays | {f"{name}.weight": times}, tmp_path / "times.gguf")))


@pytest.mark.parametrize(("name", "tensor"), [("qwen2", "ffn_up.scale"), ("qwen3next", "ssm_out.scale")])
def test_a_scale_that_llama_cpp_passes_over_is_refused(name: str, tensor: str, tmp_path: Path) -> None:
    path = save(SMALL[name], values(name) | {f"blk.0.{tensor}": np.ones(1)}, tmp_path / "m.gguf")
    with pytest.raises(ForwardError, match=f"holds a tensor 'blk.0.{tensor}', for which this {name} has no place"):
        logits(path)


def test_where_attention_turns_in_granites_a_file_says(tmp_path: Path) -> None:
    path, turned = write(SMALL["granite"], tmp_path / "m.gguf"), SMALL["granite"]
    still = Small(turned.architecture, keys={**turned.keys, "rope.scaling.finetuned": False}, without=turned.without)
    assert not np.array_equal(logits(path), logits(write(still, tmp_path / "still.gguf")))
    for small, turns in ((turned, True), (still, False)):
        found = hyper("m.gguf", {entry.key: entry for entry in metadata(small)}, VOCABULARY)
        assert found.turns(found.row.operations[1], 0) is turns  # type: ignore[arg-type]


def test_heads_of_layers_without_attention_are_none() -> None:
    small = SMALL["lfm2"]
    said = {entry.key: entry for entry in metadata(small)}
    said["lfm2.attention.head_count"] = kv("lfm2.attention.head_count", [0, small.heads, 0])
    assert hyper("m.gguf", said, VOCABULARY).n_head == small.heads
    said["lfm2.attention.head_count"] = kv("lfm2.attention.head_count", [4, 8, 0])
    with pytest.raises(ForwardError, match="head_count differs between layers"):
        hyper("m.gguf", said, VOCABULARY)


@pytest.mark.parametrize("name", ["qwen2", "llama", "gemma3"])
def test_a_joined_file_is_one_that_llama_cpp_loads(name: str, tmp_path: Path) -> None:
    path = save(SMALL[name], joined(values(name), "attn_qkv"), tmp_path / "one.gguf")
    with read(path) as file:
        check_loadable("one.gguf", file.metadata, file.tensor_entries())
    assert not unlisted(SMALL[name].architecture, ["blk.0.attn_qkv.weight", "blk.0.attn_qkv.bias"])
    assert unlisted("deepseek2", ["blk.0.attn_qkv.weight"])
