"""`quantmill init --from` of repositories of the Hub, and of folders, that hold one model or several."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

import gguf_files
from hub_bases import Hub
from hub_bases import hub as hub  # the fixture
from hub_bases import project as project  # the fixture
from hub_helpers import fails
from hub_server import Repository
from projects import TINY, Project
from quantmill.architectures.json_file import model_files
from quantmill.artifact import Context
from quantmill.checkpoint.conversion import convert
from quantmill.quant.quantizer import quantize_file
from quantmill.recipe.recipe import load

CARD = "---\nbase_model: acme/tiny\nbase_model_relation: quantized\n---\n# Tiny GGUF\n"


@pytest.fixture
def files(tmp_path: Path) -> Mapping[str, Path]:
    """Files of a release: its base, two of it in folders, and one of another model of the same shapes."""
    out = tmp_path / "out"
    (out / "Q8_0").mkdir(parents=True)
    base = out / "Maker_Tiny-bf16.gguf"
    convert(model_files(TINY), base, "BF16", "tiny", None, Context())
    quantize_file(base, out / "Q8_0" / "Maker_Tiny-Q8_0.gguf", "Q8_0")
    quantize_file(base, out / "Maker_Tiny-Q4_K_M.gguf", "Q4_K_M", imatrix=TINY / "imatrix.dat")
    gguf_files.changed(out / "Q8_0" / "Maker_Tiny-Q8_0.gguf", out / "Other-Q8_0.gguf", general__name="other")
    (out / "README.md").write_text(CARD)
    shutil.copy(TINY / "imatrix.dat", out / "Maker_Tiny.imatrix")
    return {path.relative_to(out).as_posix(): path for path in out.rglob("*") if path.is_file()}


def publish(hub: Hub, files: Mapping[str, Path], name: str = "tiny-GGUF") -> None:
    repository = Repository(hub.repository.folder.parent / name)
    repository.commit({each: path.read_bytes() for each, path in files.items()}, lambda each: each.endswith(".gguf"))


def test_a_repository_is_a_release(hub: Hub, project: Project, files: Mapping[str, Path]) -> None:
    publish(hub, {name: path for name, path in files.items() if "Other" not in name})
    hub.front.reset()
    project.run("quantmill", "init", "again", "--from", "acme/tiny-GGUF")
    recipe = load(project.folder / "recipes" / "again.toml")
    assert recipe.data["base"] == {"repo": "acme/tiny", "name": "Tiny"}
    assert set(recipe.data["quants"]["matrix"]) == {"BF16", "Q4_K_M", "Q8_0"}
    assert recipe.data["prefix"] == "Maker_Tiny"
    said = " ".join(line.lstrip("# ") for line in recipe.path.read_text().splitlines())
    assert "That the base is acme/tiny is what the release's card says." in said
    assert "in the repository lies Maker_Tiny.imatrix" in said
    sizes = sum(path.stat().st_size for path in files.values())
    assert 0 < sum(count for _, count in hub.front.heads) < sizes / 4
    assert "Maker_Tiny-Q4_K_M.gguf" in project.run("quantmill", "plan", "again").stdout


def test_of_several_models_one_is_chosen(hub: Hub, project: Project, files: Mapping[str, Path], tmp_path: Path) -> None:
    publish(hub, files)
    init = ("quantmill", "init", "again", "--from")
    for place in ("acme/tiny-GGUF", str(tmp_path / "out")):
        said = fails(project, *init, place, code=2)
        assert f"{place}: it holds 2 models; choose one by --model: Maker_Tiny, Other" in said
        said = fails(project, *init, place, "--model", "maker_tini", code=2)
        assert "it holds no model 'maker_tini' (did you mean Maker_Tiny?); it has Maker_Tiny, Other" in said
        project.run(*init, place, "--model", "Maker_Tiny")
        recipe = project.folder / "recipes" / "again.toml"
        assert set(load(recipe).data["quants"]["matrix"]) == {"BF16", "Q4_K_M", "Q8_0"}
        recipe.unlink()
    project.run(*init, "acme/tiny-GGUF", "--model", "Other")
    assert load(project.folder / "recipes" / "again.toml").data["quants"]["matrix"] == ["Q8_0"]
    said = fails(
        project, "quantmill", "init", "x", "--base", str(files["Maker_Tiny-bf16.gguf"]), "--model", "a", code=2
    )
    assert "--model is for --from" in said


def test_a_repository_without_a_model_ends_in_a_sentence(hub: Hub, project: Project, files: Mapping[str, Path]) -> None:
    publish(hub, {"README.md": files["README.md"]})
    assert "there are no GGUF files of a model in it" in fails(
        project, "quantmill", "init", "x", "--from", "acme/tiny-GGUF", code=2
    )
