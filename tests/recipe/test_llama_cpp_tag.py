"""A recipe that names no llama.cpp tag has the one of its lock, and a page says whose converter made its metadata."""

import json
from pathlib import Path

import pytest

import forward_models as models
from projects import Project, new_project
from quantmill.recipe.recipe import load
from quantmill.reference.admissions import FILE, Admission, write
from quantmill.reference.spans import newest_tag, offered

NEWEST = f"b{offered()[-1].last}"
NAMED = 'llama_cpp = "b5490"\n'
OF_GGUF = """
prefix = "small"

[base]
gguf = "base.gguf"
type = "F32"

[quants]
matrix = ["Q4_K_M"]
"""


@pytest.fixture
def of_gguf(tmp_path: Path) -> Project:
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    (recipes / "small.toml").write_text(OF_GGUF)
    models.write_mixture(recipes / "base.gguf")
    return Project(tmp_path)


def lock_of(project: Project) -> dict[str, object]:
    found: dict[str, object] = json.loads(project.recipe.with_suffix(".lock").read_text())
    return found


def test_the_newest_tag_is_that_of_the_last_span_or_an_admission() -> None:
    assert newest_tag() == NEWEST
    rows = [
        Admission(tag, span, "", "", "", 1, 0) for tag, span in (("b12000", 11227), ("b13000", 1), ("v9.0.0", 11227))
    ]
    assert newest_tag(rows) == "b12000"


def test_a_gguf_base_is_locked_with_the_newest_and_keeps_it(of_gguf: Project) -> None:
    said = of_gguf.run("quantmill", "lock", "small").stdout
    assert f"llama.cpp {NEWEST}, which the recipe does not name\n" in said
    assert lock_of(of_gguf)["llama_cpp"] == NEWEST
    of_gguf.run("quantmill", "build", "small")
    files = of_gguf.release()
    listed = json.loads(files["release.json"])
    assert (listed["llama_cpp"], listed["llama_cpp_proof"]) == (NEWEST, "compared")
    assert f"[{NEWEST}](".encode() in files["README.md"]
    assert b"converter" not in files["README.md"]
    # A tag that the team admits later is taken by 'lock' alone.
    admitted = Admission("b12000", offered()[-1].first, "0" * 16, "0" * 64, "2026-11-30", 1, 0)
    write(of_gguf.folder / FILE, [admitted])
    assert of_gguf.run("quantmill", "build", "small").stdout == "nothing to do: everything is up to date\n"
    of_gguf.run("quantmill", "reproduce", "release/small")
    of_gguf.run("quantmill", "lock", "small")
    assert lock_of(of_gguf)["llama_cpp"] == load(of_gguf.recipe).llama_cpp == "b12000"
    plan = json.loads(of_gguf.run("quantmill", "plan", "small", "--json").stdout)
    assert "llama.cpp b12000 is admitted by this project's team, not by quantmill" in plan["findings"]
    of_gguf.run("quantmill", "build", "small")
    files = of_gguf.release()
    assert json.loads(files["release.json"])["llama_cpp_proof"] == "team"
    made = json.loads(files["provenance.json"])["predicate"]["buildDefinition"]["internalParameters"]
    assert made == {"generation": offered()[-1].generation, "llama_cpp_proof": "team"}


def test_a_build_without_a_lock_writes_the_tag(of_gguf: Project) -> None:
    of_gguf.run("quantmill", "build", "small")
    assert lock_of(of_gguf)["llama_cpp"] == NEWEST
    of_gguf.recipe.write_text(NAMED + of_gguf.recipe.read_text())
    failed = of_gguf.run("quantmill", "build", "small", "--locked", check=2)
    assert "it has a llama.cpp tag, and so has the recipe" in failed.stderr
    of_gguf.run("quantmill", "build", "small")
    assert "llama_cpp" not in lock_of(of_gguf)


def test_a_base_that_is_converted_has_the_newest_too(tmp_path: Path) -> None:
    project = new_project(tmp_path)
    project.edit(NAMED, "")
    project.run("quantmill", "lock", "small")
    assert lock_of(project)["llama_cpp"] == NEWEST
    plan = json.loads(project.run("quantmill", "plan", "small", "--json").stdout)
    assert plan["tag"] == NEWEST


def test_whose_converter_it_is_is_said_where_it_is_not_the_tag_s(tmp_path: Path) -> None:
    project = new_project(tmp_path)
    project.edit("b5490", NEWEST)
    plan = json.loads(project.run("quantmill", "plan", "small", "--json").stdout)
    assert plan["findings"] == [f"the metadata are converted as llama.cpp b11312 does it, not {NEWEST}"]
    project.edit(NEWEST, "b11312")
    own = json.loads(project.run("quantmill", "plan", "small", "--json").stdout)
    assert not any("converted" in finding for finding in own["findings"])
    project.edit("b11312", NEWEST)
    project.run("quantmill", "card", "small", "-o", "page")
    pages = {path.name: path.read_text() for path in (project.folder / "page").glob("README*")}
    said = "- The files' metadata are written as the converter of llama.cpp b11312 writes them, not that release's\n"
    assert said in pages["README.md"]
    assert all(text.count("llama.cpp b11312") == 1 for text in pages.values())
