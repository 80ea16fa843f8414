"""The project that a call is for, wherever in it the user stands, and what only looks leaves it as it was."""

import json
import os
import shutil
from pathlib import Path

import pytest

import forward_models
from forward_models import MODELS
from gguf_files import changed
from projects import RECIPE, Project
from quantmill.cli import main

LOOKS = [
    ["plan", "small"],
    ["plan", "small", "--json"],
    ["plan", "small", "--simulate"],
    ["explain", "quant:small/Q8_0"],
    ["choose", "small", "--backend", "cpu-avx2", "--ram", "8GB", "--vram", "0"],
    ["cache", "stat"],
    ["cache", "verify"],
    ["cache", "gc", "--dry-run"],
    ["cache", "push"],
    ["publish", "small"],
    ["publish", "small", "--dry-run"],
]


def code(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(map(str, arguments)))
    assert isinstance(ended.value.code, int)
    return ended.value.code


def tree(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*") if "__pycache__" not in path.parts)


@pytest.mark.parametrize("call", LOOKS, ids=" ".join)
def test_what_only_looks_makes_nothing(call: list[str], project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.folder)
    before = tree(project.folder)
    assert code(*call) in (0, 2)
    assert tree(project.folder) == before


@pytest.mark.parametrize("call", ["list --all", "info quant:small/Q8_0", "help", "list --all --status"])
def test_doit_looks_and_makes_nothing(call: str, project: Project) -> None:
    before = tree(project.folder)
    project.run("doit", *call.split(), check=None)
    assert tree(project.folder) == before


def test_from_a_subfolder_and_with_c(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    deep = project.folder / "notes" / "deep"
    deep.mkdir(parents=True)
    found = []
    for place, more in ((project.folder, []), (deep, []), (project.folder / "recipes", []), (Path("/"), ["-C", deep])):
        monkeypatch.chdir(place)
        assert code(*more, "plan", "small", "--json") == 0
        found.append(json.loads(capsys.readouterr().out))
    assert all(plan == found[0] for plan in [{**plan, "seconds": found[0]["seconds"]} for plan in found])


def test_a_build_from_a_subfolder_is_the_projects(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    deep = project.folder / "notes"
    deep.mkdir()
    monkeypatch.chdir(deep)
    assert code("build", "small", "--only", "Q8_0") == 0
    assert list(deep.iterdir()) == []
    assert (project.folder / "build" / "small" / "quant" / "Q8_0.json").is_file()
    monkeypatch.chdir(project.folder)
    assert code("build", "small", "--only", "Q8_0") == 0
    assert "nothing to do" in capsys.readouterr().out


def test_paths_lead_from_where_the_user_stands(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    deep = project.folder / "notes"
    shutil.copytree(project.folder / "recipes", deep / "own")
    (deep / "own" / "small.toml").rename(deep / "own" / "other.toml")
    monkeypatch.chdir(deep)
    assert code("plan", "own/other.toml") == 0
    assert code("card", "small", "-o", "page") == 0
    assert (deep / "page" / "README.md").is_file()
    capsys.readouterr()
    assert code("-C", "nowhere", "plan", "small") == 2
    assert "argument -C: 'nowhere' is no folder to go to (No such file or directory)" in capsys.readouterr().err


def test_a_folder_of_several_models_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = forward_models.write(MODELS["qwen2"], tmp_path / "plain.gguf")
    changed(model, tmp_path / "a-Q8_0.gguf", general__name="A")
    changed(model, tmp_path / "b-Q4_K_M.gguf", general__name="B")
    monkeypatch.chdir(tmp_path)
    size = ("--backend", "cpu-avx2", "--ram", "8GB", "--vram", "0")
    assert code("choose", ".", *size) == 2
    said = "quantmill: .: a-Q8_0.gguf, b-Q4_K_M.gguf are of different models; name a folder that holds those of one\n"
    assert capsys.readouterr().err == said
    os.remove("b-Q4_K_M.gguf")
    assert code("choose", ".", *size) == 0


def test_publish_without_the_hub_shows_what_would_be_sent(project: Project) -> None:
    project.recipe.write_text(RECIPE + '[publish]\nrepo = "someone/small-GGUF"\n')
    project.run("quantmill", "build", "small")
    done = project.run("quantmill", "publish", "small", "--dry-run", HF_HUB_OFFLINE="1")
    assert "small-Q8_0.gguf" in done.stdout
    assert done.stderr.startswith("quantmill: note: someone/small-GGUF at main: ")
    assert len(done.stderr.splitlines()) == 1
    assert project.run("quantmill", "publish", "small", "--yes", HF_HUB_OFFLINE="1", check=1).stdout == ""


def test_a_tensor_larger_than_a_shard_is_in_the_plan(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project.recipe.write_text(
        RECIPE.replace('["BF16", "Q8_0", "Q4_K_M", "Q2_K"]', '["Q2_K"]')
        + '[[quants.override]]\ntensors = { "token_embd" = "Q2_K", "ffn_up" = "F16" }\n[split]\nmax_size = "200KB"\n'
    )
    monkeypatch.chdir(project.folder)
    assert code("plan", "small", "--json") == 0
    said = "Q2_K: the tensor blk.0.ffn_up.weight has 393216 bytes, more than split.max_size, and so has its shard"
    assert said in json.loads(capsys.readouterr().out)["findings"]
