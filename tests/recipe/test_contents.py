"""What a base is, said by name at lock and plan: quantized, an adapter, misnamed; and sizes that are the file's."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert_golden import models as golden
from projects import Project
from quantmill.cli import main
from quantmill.forecast.plan import plan_of
from quantmill.recipe.recipe import load

RECIPE = 'llama_cpp = "b5490"\n[base]\npath = "base"\nname = "B"\n[quants]\nmatrix = ["BF16", "Q8_0"]\n'


def base(folder: Path, extra: dict[str, Any] | None = None, **config: Any) -> Path:
    """A recipe whose base has what `config` says, and `extra` tensors beside its own."""
    facts = golden.config("Qwen2ForCausalLM", "qwen2", tie_word_embeddings=True) | config
    shapes = golden.shapes_of(facts, ("q", "k", "v"))
    tokenizer = golden.byte_level(golden.split(golden.QWEN2), golden._QWEN_TOKENS, {"type": "NFC"})
    files = {"tokenizer.json": tokenizer, "tokenizer_config.json": golden._QWEN_CONFIG}
    golden.write(folder / "base", facts, "BF16", files, shapes)
    numbers = {
        name: ("BF16", np.full(shape, 0x3C00 + len(name), "<u2"))
        for name, shape in (shapes | dict.fromkeys(extra or {}, (288, 64))).items()
    }
    golden.save_safetensors(folder / "base" / "model.safetensors", numbers)
    (folder / "r.toml").write_text(RECIPE)
    return folder / "r.toml"


def ended(*arguments: str) -> Any:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    return caught.value.code


@pytest.mark.parametrize("command", ["lock", "plan"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "(gptq, `quantization_config`)"),
        ({"quantization_config": {"quant_method": "fp8"}}, "(fp8, `quantization_config`)"),
        ({"quantization_config": {"load_in_4bit": True, "quant_method": "bitsandbytes"}}, "(bitsandbytes, "),
        ({"quantization": {"group_size": 64, "bits": 4}}, "(MLX, `quantization`)"),
        ({"compression_config": {"quant_method": "compressed-tensors"}}, "(compressed-tensors, `compression_config`)"),
    ],
)
def test_config_json_says_that_weights_are_quantized(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, change: dict[str, Any], said: str
) -> None:
    assert ended(command, str(base(tmp_path, **change))) == 2
    error = capsys.readouterr().err
    assert f"config.json: the weights are quantized already {said}" in error
    assert "give the model's own checkpoint, whose weights are BF16, F16 or F32" in error


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("model.layers.0.mlp.down_proj.qweight", "GPTQ or AWQ"),
        ("model.layers.0.mlp.down_proj.SCB", "bitsandbytes, 8 bits"),
        ("model.layers.0.mlp.down_proj.weight.absmax", "bitsandbytes, 4 bits"),
        ("model.layers.0.mlp.down_proj.weight_scale_inv", "FP8"),
        ("model.layers.0.mlp.down_proj.scales", "MLX"),
        ("model.layers.0.mlp.down_proj.weight_packed", "compressed-tensors"),
    ],
)
def test_or_the_tensors_names_do(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, kind: str) -> None:
    recipe = base(tmp_path, {name: None})
    for arguments in (("lock", str(recipe)), ("convert", str(tmp_path / "base"), str(tmp_path / "m.gguf"))):
        assert ended(*arguments) == 2
        error = capsys.readouterr().err
        assert f"are quantized already ({kind}, by {name}), which cannot be converted" in error
        assert "base: its weights" in error


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["adapter_config.json", "adapter_model.safetensors"], "a LoRA adapter (adapter_config.json); merge it into"),
        (["consolidated.safetensors"], "its weights are named consolidated.safetensors; those of a model in Hugging"),
        (["x-Q4_K_M.gguf"], "it holds GGUF files (x-Q4_K_M.gguf) and no checkpoint; name one of them"),
        (
            ["model-00001-of-00002.safetensors", "model.safetensors.index.json"],
            "model-00002-of-00002.safetensors of 2 shards is missing; fetch what is missing",
        ),
        (
            ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
            "its weights are 2 shards, but model.safetensors.index.json is missing, which says what they hold",
        ),
    ],
)
def test_names_tell_what_a_folder_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], files: list[str], said: str
) -> None:
    recipe = base(tmp_path)
    (tmp_path / "base" / "model.safetensors").unlink()
    for name in files:
        (tmp_path / "base" / name).write_text("{}")
    for arguments in (("plan", str(recipe)), ("convert", str(tmp_path / "base"), str(tmp_path / "m.gguf"))):
        assert ended(*arguments) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize("output", [False, True])
def test_sizes_are_those_of_the_built_file(tmp_path: Path, output: bool) -> None:
    (tmp_path / "p").mkdir()
    recipe = base(tmp_path / "p", {"lm_head.weight": None} if output else None)
    planned = {row.ftype: row.bytes for row in plan_of(load(recipe), tmp_path / "p").files}
    assert ended("lock", str(recipe)) == 0
    assert json.loads(recipe.with_suffix(".lock").read_text()).get("output", False) == output
    Project(tmp_path / "p").run("quantmill", "build", str(recipe))
    built = {path.stem.rpartition("-")[2].upper(): path.stat().st_size for path in tmp_path.rglob("release/**/*.gguf")}
    assert planned == built
    assert {row.ftype: row.bytes for row in plan_of(load(recipe), tmp_path / "p").files} == built


def test_a_broken_checkpoint_is_refused_when_it_is_locked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = base(tmp_path, {"model.layers.0.odd": None})
    assert ended("lock", str(recipe)) == 2
    assert "hold a tensor 'model.layers.0.odd', for which Qwen2ForCausalLM has no place" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["lock", "plan"])
@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (b"", "0 bytes are too few for a safetensors file; fetch it again"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:x\nsize 1\n", "a git-lfs pointer, not the file"),
        (b"\xff" * 100, "its header claims 18446744073709551615 bytes in a file of 100"),
    ],
)
def test_weights_without_a_header_are_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, weights: bytes, said: str
) -> None:
    recipe = base(tmp_path)
    path = tmp_path / "base" / "model.safetensors"
    path.write_bytes(weights)
    assert ended(command, str(recipe)) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"quantmill: path base: model.safetensors: {said}")
    assert error.count("\n") == 1


def test_what_config_json_says_is_said_of_the_base(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended("plan", str(base(tmp_path, architectures=["OtherForCausalLM"]))) == 2
    assert capsys.readouterr().err.startswith("quantmill: path base: config.json: the architecture 'OtherForCausalLM'")
