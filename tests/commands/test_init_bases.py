"""`quantmill init` for bases of every kind: what it writes has a plan, and what has none it refuses."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gguf_files
from convert_golden import models
from projects import TINY, Project
from quantmill.cli import main
from quantmill.gguf import kv
from quantmill.network import hub
from quantmill.recipe.recipe import load
from standins.llama_cpp import checkpoint, ready, sources, tools

NO_TOKENIZER = "neither tokenizer.model nor tokenizer.json; one of them is needed: copy it from the model that"
ABSENT = "and there is no llama.cpp b11739 on this machine; make it usable: quantmill toolchain b11739 --from"
Change = Callable[[Path], Any]


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(map(str, arguments)))
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model in `base`, stood in; no llama.cpp is on this machine."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copytree(TINY, tmp_path / "here" / "base")
    return tmp_path / "here"


def config(**change: Any) -> Change:
    def changed(base: Path) -> None:
        path = base / "config.json"
        facts = json.loads(path.read_text()) | change
        path.write_text(json.dumps({key: value for key, value in facts.items() if value is not None}))

    return changed


def weights(name: str) -> Change:
    def changed(base: Path) -> None:
        (base / "model.safetensors").unlink()
        models.save_safetensors(base / "model.safetensors", {name: ("I32", np.zeros((4, 4), "<i4"))})

    return changed


def renamed(name: str) -> Change:
    return lambda base: (base / "model.safetensors").rename(base / name)


def of_mistral(base: Path) -> None:
    renamed("consolidated.safetensors")(base)
    (base / "params.json").write_text("{}")


def adapter(base: Path) -> None:
    for path in base.iterdir():
        path.unlink()
    (base / "adapter_config.json").write_text("{}")
    (base / "adapter_model.safetensors").touch()


def files_of_gguf(base: Path) -> None:
    adapter(base)
    (base / "adapter_config.json").rename(base / "x.json")
    (base / "adapter_model.safetensors").rename(base / "x.gguf")


def unnamed_pattern(base: Path) -> None:
    tokenizer = json.loads((base / "tokenizer.json").read_text())
    tokenizer["pre_tokenizer"] = {"type": "Split", "pattern": {"Regex": "nobody knows"}, "behavior": "Isolated"}
    (base / "tokenizer.json").write_text(json.dumps(tokenizer))


QUANTIZED = "the weights are quantized already ("
REFUSED: dict[str, tuple[Change, int, str]] = {
    "class": (config(architectures=["NobodyForCausalLM"]), 2, f"'NobodyForCausalLM' cannot be converted; … {ABSENT}"),
    "no class": (config(architectures=None), 2, f"config.json has no list `architectures`… {ABSENT}"),
    "GPTQ": (config(quantization_config={"quant_method": "gptq"}), 2, f"{QUANTIZED}gptq… {ABSENT}"),
    "AWQ": (config(quantization_config={"quant_method": "awq"}), 2, f"{QUANTIZED}awq… {ABSENT}"),
    "bitsandbytes": (config(quantization_config={"quant_method": "bitsandbytes"}), 2, f"{QUANTIZED}bits… {ABSENT}"),
    "MLX": (config(quantization={"bits": 4}), 2, f"{QUANTIZED}MLX… {ABSENT}"),
    "GPTQ by its tensors": (weights("model.layers.0.mlp.up_proj.qweight"), 2, "quantized already (GPTQ or AWQ, by"),
    "adapter's tensors": (weights("model.layers.0.q_proj.lora_A.weight"), 2, "those of a LoRA adapter"),
    "adapter": (adapter, 2, "base: a LoRA adapter (adapter_config.json); merge it into its base model first"),
    "GGUF files": (files_of_gguf, 2, "base: it holds GGUF files (x.gguf) and no checkpoint; name one of them\n"),
    "pickled": (renamed("pytorch_model.bin"), 2, "its weights are pickled (pytorch_model.bin)"),
    "Mistral's names": (of_mistral, 2, f"are named consolidated.safetensors… {ABSENT}"),
    "no size": (config(hidden_size=None), 2, "config.json lacks `hidden_size`"),
    "cut": (lambda base: (base / "model.safetensors").write_bytes(b"x" * 50), 1, "model.safetensors: its header"),
    "no tokenizer": (lambda base: (base / "tokenizer.json").unlink(), 2, NO_TOKENIZER),
    "pattern": (unnamed_pattern, 2, "has no known llama.cpp name … name it by --pre-tokenizer"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_base_without_a_plan_is_refused(here: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """And nothing is written; the sentence names no key of a recipe that is not there."""
    change, code, said = REFUSED[name]
    change(here / "base")
    before = sorted(here.rglob("*"))
    assert call("init", "mine", "--base", "base") == code
    shown = capsys.readouterr()
    assert len(shown.err.splitlines()) == 1
    assert all(part in shown.err for part in said.split("…"))
    assert "base" in shown.err.partition(": ")[2].partition(": ")[0]
    assert "[" not in shown.err.replace("[gMASK]", "")
    assert not shown.out
    assert sorted(here.rglob("*")) == before


PLANNED: dict[str, tuple[Change, tuple[str, ...], str]] = {
    "pattern": (unnamed_pattern, ("--pre-tokenizer", "qwen2"), 'pre_tokenizer = "qwen2"'),
    "page": (lambda base: (base / "README.md").write_text("---\na: [\n---\n"), (), "readme = false"),
    "older tag": (lambda base: None, ("--llama-cpp", "b5490"), 'llama_cpp = "b5490"'),
    "link": (lambda base: (base.rename("elsewhere"), base.symlink_to("elsewhere")), (), 'path = "../../base"'),
}


@pytest.mark.parametrize("name", PLANNED)
def test_what_a_base_needs_is_written(here: Path, name: str) -> None:
    change, more, line = PLANNED[name]
    change(here / "base")
    assert call("init", "mine", "--base", "base", *more) == 0
    assert line in (here / "mine/recipes/mine.toml").read_text().splitlines()
    assert "mine-Q4_K_M.gguf" in Project(here / "mine").run("quantmill", "plan", "mine").stdout


@pytest.mark.parametrize("kind", ["projector", "adapter", "matrix", "of an unknown architecture"])
def test_gguf_files_of_every_kind(here: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    facts = {
        "projector": {"general.type": "mmproj", "general.architecture": "clip"},
        "adapter": {"general.type": "adapter", "general.architecture": "qwen2"},
        "matrix": {"general.type": "imatrix"},
        "of an unknown architecture": {"general.type": "model", "general.architecture": "nobody"},
    }[kind]
    gguf_files.write(here / "x.gguf", gguf_files.described(3), [kv(key, value) for key, value in facts.items()])
    assert call("init", "mine", "--base", "x.gguf") == 2
    said = capsys.readouterr().err
    assert said.startswith("quantmill: x.gguf: ")
    assert "[imatrix]" not in said
    assert not (here / "mine").exists()


def test_what_a_toolchain_converts_is_left_to_it(tmp_path: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it can measure too; a class that its converter does not name is refused, by a plan as by init."""
    base = checkpoint(here / "standin")
    made = ready(Project(tmp_path), tmp_path / "ready", sources(tmp_path / "s"), tools(tmp_path / "bin"))
    for name, value in made.items():
        monkeypatch.setenv(name, value)
    assert call("init", "mine", "--base", base, "--llama-cpp", "b11312") == 0
    recipe = load(here / "mine/recipes/mine.toml")
    assert (recipe.convert_with, recipe.imatrix and recipe.imatrix.tool) == ("llama.cpp", "llama.cpp")
    assert recipe.evaluation
    assert recipe.evaluation.tool == "llama.cpp"
    planned = Project(here / "mine").run("quantmill", "plan", "mine", **made).stdout
    assert "convert: convert_hf_to_gguf.py of llama.cpp b11312" in planned
    assert "imatrix: llama-imatrix of llama.cpp b11312" in planned


def test_what_a_converter_does_not_name_is_no_plan(
    tmp_path: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = sources(tmp_path / "s")
    (tree / "conversion").mkdir()
    (tree / "conversion" / "other.py").write_text('@ModelBase.register("OtherForCausalLM")\n# quant_method == "gptq"\n')
    made = ready(Project(tmp_path), tmp_path / "ready", tree, tools(tmp_path / "bin"))
    for name, value in made.items():
        monkeypatch.setenv(name, value)
    packed = "weights that are quantized already"
    for change, strange in (
        ({"architectures": ["NobodyForCausalLM"]}, "the class 'NobodyForCausalLM'"),
        (
            {"architectures": ["OtherForCausalLM"], "quantization": {"bits": 4}},
            f"{packed} (MLX)",
        ),
        ({"quantization_config": {"quant_method": "awq"}}, f"{packed} (awq)"),
        (
            {
                "architectures": ["OtherForCausalLM"],
                "quantization_config": {"quant_method": "gptq"},
                "quantization": None,
            },
            "",
        ),
        ({"architectures": ["OtherForCausalLM"], "quantization_config": None}, ""),
    ):
        config(**change)(here / "base")
        code = call("init", "mine", "--base", "base", "--llama-cpp", "b11312")
        said = capsys.readouterr().err
        assert (code, f"the converter of llama.cpp b11312 does not know {strange}" in said) == (
            (2, True) if strange else (0, False)
        )
        if not strange:
            Project(here / "mine").run("quantmill", "plan", "mine", **made)
            shutil.rmtree(here / "mine")
    (here / "recipes").mkdir()
    text = (
        'llama_cpp = "b11312"\n[base]\npath = "../base"\n[convert]\nwith = "llama.cpp"\n[quants]\nmatrix = ["Q8_0"]\n'
    )
    (here / "recipes" / "small.toml").write_text(text)
    assert call("plan", "small") == 0
    config(architectures=["NobodyForCausalLM"])(here / "base")
    assert call("plan", "small") == 2
    assert "recipes/small.toml: the converter of llama.cpp b11312 does not know the class" in capsys.readouterr().err


def test_a_model_of_the_hub_is_looked_at(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the Hub cannot be reached, the recipe says so."""
    monkeypatch.setattr(hub, "PAUSE", 0.001)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert call("init", "mine", "--base", "someone/model") == 0
    text = (here / "mine/recipes/mine.toml").read_text()
    assert "# It could not be looked at: someone/model at main: " in text
    assert load(here / "mine/recipes/mine.toml").base.repo == "someone/model"
