"""What llama.cpp refuses to load is neither converted nor verified: one table of what an architecture must have."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert_golden import models as golden
from forward_models import MODELS, VOCABULARY, metadata, weights, write
from quantmill.architectures.description import describe
from quantmill.architectures.errors import ForwardError, ModelError, NotLoadable
from quantmill.architectures.hyperparameters import hyper
from quantmill.architectures.known import ARCHITECTURES
from quantmill.architectures.loading import check_loadable
from quantmill.architectures.tensor_check import expected
from quantmill.artifact import Artifact, Context
from quantmill.checkpoint.safetensors import open_weights
from quantmill.cli import main
from quantmill.gguf import Writer, kv, read
from quantmill.gguf.layout import TensorEntry
from quantmill.gguf.types import TYPES
from quantmill.steps import verify as verify_step

F32 = TYPES["F32"]


def ended(*arguments: str) -> Any:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    return caught.value.code


def tied_mixture(folder: Path, **config: Any) -> Path:
    golden.qwen3moe(folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tie_word_embeddings": True, **config}))
    return folder


def without_output(folder: Path) -> None:
    """The checkpoint of a tied model, which has no output matrix."""
    with open_weights({"model.safetensors": folder / "model.safetensors"}) as weights:
        codes = {"BF16": "<u2", "F16": "<f2", "F32": "<f4"}
        kept = {
            name: (weight.dtype, np.array(weight.data.view(codes[weight.dtype])).reshape(weight.shape))
            for name, weight in weights.items()
            if name != "lm_head.weight"
        }
    golden.save_safetensors(folder / "model.safetensors", kept)


def test_a_tied_mixture_of_qwen3_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tied_mixture(tmp_path / "Qwen3")
    without_output(folder)
    assert ended("convert", str(folder), str(tmp_path / "m.gguf")) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"quantmill: {folder}: config.json: llama.cpp's qwen3moe does not load without output.weight, which a model of "
        "tied embeddings (`tie_word_embeddings`) has not; a checkpoint with an lm_head.weight of its own would be right"
    )
    assert not (tmp_path / "m.gguf").exists()
    with pytest.raises(ModelError, match=r"does not load without output\.weight"):
        describe(json.loads((folder / "config.json").read_text()), "BF16")


def test_with_an_output_of_its_own_it_is_converted_and_generates(tmp_path: Path) -> None:
    folder = tied_mixture(tmp_path / "Qwen3")
    assert ended("convert", str(folder), str(tmp_path / "m.gguf")) == 0
    assert ended("verify", str(tmp_path / "m.gguf")) in (0, 1)  # its weights are no numbers in places
    with read(tmp_path / "m.gguf") as file:
        check_loadable("m.gguf", file.metadata, file.tensor_entries())


@pytest.mark.parametrize(
    ("class_", "change", "said"),
    [
        ("Qwen3ForCausalLM", {"attention_bias": True}, "`attention_bias` asks for the tensor blk.0.attn_k.bias, for"),
        ("Qwen2ForCausalLM", {"head_dim": 32}, "qwen2.attention.key_length is 32 for each of 4 heads; 64 for all"),
        (
            "Qwen3MoeForCausalLM",
            {"num_experts": 257, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "norm_topk_prob": True},
            "qwen3moe.expert_count is 257; at most 256 would be right",
        ),
        ("Qwen3ForCausalLM", {"head_dim": 31}, "qwen3.attention.key_length is 31; an even one would be right"),
    ],
)
def test_a_configuration_whose_file_llama_cpp_refuses(class_: str, change: dict[str, Any], said: str) -> None:
    with pytest.raises((ModelError, ForwardError)) as error:
        describe(golden.config(class_, "x") | change, "BF16")
    assert said in str(error.value)


@pytest.mark.parametrize("name", golden.MODELS)
def test_what_is_converted_is_what_the_engine_computes_with(name: str, tmp_path: Path) -> None:
    golden.MODELS[name](tmp_path / name)
    entries, tensors = describe(json.loads((tmp_path / name / "config.json").read_text()), "BF16")
    found = hyper(name, {entry.key: entry for entry in entries}, next(s[1] for n, s, _ in tensors if "embd" in n))
    shapes = {tensor: shape for tensor, shape, _ in tensors}
    assert {tensor for tensor, _, optional in expected(found) if not optional} <= shapes.keys()
    assert shapes.items() <= {tensor: shape for tensor, shape, _ in expected(found)}.items()


@pytest.mark.parametrize("name", MODELS)
def test_every_key_and_tensor_that_is_needed_is_missed(name: str) -> None:
    small = MODELS[name]
    entries = {entry.key: entry for entry in metadata(small)}
    found = hyper("", entries, VOCABULARY)
    tensors = [TensorEntry(tensor, shape, F32) for tensor, shape, _ in weights(small)]
    check_loadable("m", entries, tensors)
    arch, row = small.architecture, ARCHITECTURES[small.architecture]
    needed = [*(f"{arch}.{key}" for key in row.needed), "tokenizer.ggml.model", "tokenizer.ggml.tokens"]
    for key in needed:
        with pytest.raises(NotLoadable) as error:
            check_loadable("m", {k: v for k, v in entries.items() if k != key}, tensors)
        assert str(error.value) == (
            f"m: lacks the key {key}, which llama.cpp's {arch} needs, so that it does not load; convert the model anew"
        )
    for tensor, _, optional in expected(found):
        rest = [entry for entry in tensors if entry.name != tensor]
        if optional or (name == "mixtral" and "gate_exps" in tensor):
            check_loadable("m", entries, rest)
            continue
        with pytest.raises(NotLoadable, match=f"^m: lacks the tensor '{tensor}', which llama.cpp's {arch} needs"):
            check_loadable("m", entries, rest)
    with pytest.raises(NotLoadable, match=r"holds the tensor 'blk\.0\.odd\.weight', for which"):
        check_loadable("m", entries, [*tensors, TensorEntry("blk.0.odd.weight", (8,), F32)])
    with pytest.raises(NotLoadable, match=r"'output_norm\.weight' has the shape \[8\] and not"):
        check_loadable("m", entries, [e if e.name != "output_norm.weight" else e._replace(shape=(8,)) for e in tensors])


def test_what_is_no_model_is_not_asked_for_a_models_tensors() -> None:
    entries = {entry.key: entry for entry in metadata(MODELS["qwen2"])}
    some = [TensorEntry("token_embd.weight", (64, VOCABULARY), F32)]
    check_loadable("m", entries | {"general.type": kv("general.type", "adapter")}, some)
    check_loadable("m", entries | {"general.architecture": kv("general.architecture", "falcon")}, some)
    check_loadable("m", entries, [])  # a vocabulary alone


def cut(source: Path, target: Path, without: str) -> Path:
    with read(source) as file:
        kept = [info for info in file.tensors.values() if info.name != without]
        entries = list(file.metadata.values())
        with Writer(target, entries, [info.entry for info in kept]) as writer:
            for info in kept:
                writer.append(np.array(file.data(info)))
    return target


def test_verify_refuses_a_file_and_a_build_never_finishes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = write(MODELS["qwen3moe"], tmp_path / "whole.gguf")
    assert ended("verify", str(whole)) == 0
    lacking = cut(whole, tmp_path / "m.gguf", "output.weight")
    assert ended("verify", str(lacking)) == 1
    assert "m.gguf: lacks the tensor 'output.weight', which llama.cpp's qwen3moe needs" in capsys.readouterr().err
    assert ended("split", str(lacking), str(tmp_path / "s"), "--max-tensors", "9") == 0
    assert ended("verify", str(next((tmp_path / "s").glob("*-00001-of-*")))) == 1
    artifact = Artifact(lacking, hashlib.sha256(lacking.read_bytes()).hexdigest(), lacking.stat().st_size)
    (tmp_path / "out").mkdir()
    with pytest.raises(NotLoadable, match=r"^m\.gguf: lacks the tensor 'output\.weight'"):
        verify_step.run({"files/m.gguf": artifact, "base.gguf": artifact}, {}, tmp_path / "out", Context())
    assert not (tmp_path / "out" / "verify.json").exists()
