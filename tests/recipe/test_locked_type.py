"""The type that a converter chooses by the weights stands in the lock, so that nobody opens them to know it."""

import json
import shutil
from pathlib import Path

import pytest

from projects import RECIPE, TINY, Project, new_project
from quantmill.disk import sha256_file
from quantmill.errors import UsageError
from quantmill.recipe import lock as locks
from quantmill.recipe.recipe import load


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return new_project(tmp_path, RECIPE.replace("b5490", "b11739").replace('"BF16", ', ""))


def whole(weights: Path) -> None:
    """The same weights under another type's name, with which a folder's files keep their sizes."""
    weights.write_bytes(weights.read_bytes().replace(b'"BF16"', b'"F16" '))


def test_the_lock_says_the_type_and_the_weights_stay_closed(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.run("quantmill", "lock", "small")
    assert json.loads(project.recipe.with_suffix(".lock").read_text())["type"] == "BF16"
    monkeypatch.setattr("quantmill.recipe.base_table._chosen", lambda *_: pytest.fail("the weights were read"))
    assert load(project.recipe).base.type == "BF16"
    project.edit("b11739", "b5490")
    assert load(project.recipe).base.type == "BF16"  # of this tag the recipe's own
    assert "type" not in json.loads(locks.write(load(project.recipe), sha256_file).text())


def test_a_lock_without_it_is_written_anew(project: Project) -> None:
    project.run("quantmill", "lock", "small")
    path = project.recipe.with_suffix(".lock")
    data = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in data.items() if key != "type"}))
    said = project.run("quantmill", "build", "small", "--locked", check=2).stderr
    assert "its base's type is open, and by the recipe BF16; run 'quantmill lock " in said
    assert json.loads(locks.current(load(project.recipe), False, sha256_file).text()) == data
    path.write_text(json.dumps(data | {"type": 1}))
    with pytest.raises(UsageError, match=r"small\.lock: its type is no text"):
        locks.load(load(project.recipe))


def test_weights_that_become_others_are_said(project: Project) -> None:
    project.run("quantmill", "lock", "small")
    whole(project.folder / "recipes" / "tiny" / "model.safetensors")
    said = project.run("quantmill", "plan", "small", check=2).stderr
    assert "small.lock: its base's type is BF16, and by the weights F16; run 'quantmill lock " in said
    project.run("quantmill", "lock", "small")
    assert json.loads(project.recipe.with_suffix(".lock").read_text())["type"] == "F16"
    shutil.copy(TINY / "model.safetensors", project.folder / "recipes" / "tiny")
    project.run("quantmill", "lock", "small")
    assert load(project.recipe).base.type == "BF16"
