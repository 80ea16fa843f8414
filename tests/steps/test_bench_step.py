"""[bench] in a recipe: speeds on the page and in the release, as this host's, and never as another's."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from projects import RECIPE, Project
from quantmill import host
from quantmill.build import graph
from quantmill.build.node_key import key_of
from quantmill.disk import sha256_file
from quantmill.recipe import lock as locks
from quantmill.recipe.recipe import load

BENCH = '\n[bench]\ntests = ["pp16", "tg4"]\nftypes = ["Q4_0", "Q4_K_L"]\nrepetitions = 1\nthreads = 1\n'
MEASURED = RECIPE.replace('"BF16", "Q8_0", "Q4_K_M", "Q2_K"', '"Q4_0", "Q4_K_L"') + BENCH


def test_speeds_reach_page_and_release_and_are_reproduced_from_it(make_project: Callable[..., Project]) -> None:
    project = make_project(text=MEASURED)
    assert "bench:small" in project.ran("quantmill", "build", "small")
    tree = project.release()
    found = json.loads(tree["bench.json"])
    assert [(row["file"], row["ftype"], row["test"]) for row in found["rows"]] == [
        (f"small-{ftype}.gguf", ftype, test) for ftype in ("Q4_0", "Q4_K_L") for test in ("pp16", "tg4")
    ]
    assert all(row["ts"] > 0 for row in found["rows"])
    assert found["rows"][0]["percent_of_q4_0"] == 100
    assert {row["sd"] for row in found["rows"]} == {None}
    assert found["host"]["cpu"] == host.cpu_name()
    assert found["host"]["threads"] == 1
    listed = {file["name"]: file["ftype"] for file in json.loads(tree["release.json"])["files"]}
    assert listed["bench.json"] is None
    assert b"| pp16 |" in tree["README.md"]
    assert b"| tg4 |" in tree["README.ja.md"]
    assert project.ran("quantmill", "build", "small") == []
    project.run("quantmill", "reproduce", "release/small")  # measured again, the pages would differ
    project.edit('"tg4"', '"tg5"')
    assert project.ran("quantmill", "build", "small") == ["bench:small", "card:small", "release:small"]


def test_another_host_is_another_key(
    make_project: Callable[..., Project], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load(make_project(text=MEASURED).recipe)
    lock = locks.peek(recipe, sha256_file)

    def keys() -> dict[str, str]:
        return {name: key_of(node, {}).digest() for name, node in graph.graph(recipe, lock).items()}

    here = keys()
    assert keys() == here
    other = tmp_path / "cpuinfo"
    other.write_text("processor\t: 0\nmodel name\t: Another Processor 9000\n")
    monkeypatch.setattr(host, "CPUINFO", other)
    assert [name for name, key in keys().items() if key != here[name]] == ["bench:small"]


def test_a_test_that_the_model_is_too_short_for(make_project: Callable[..., Project]) -> None:
    project = make_project(text=MEASURED.replace("pp16", "pp999999"))
    assert "the test pp999999 needs a context of 999999 tokens; the model's own is" in project.run(
        "quantmill", "plan", "small"
    ).stdout.replace("\n", " ")
    failed = project.run("quantmill", "build", "small", check=1)
    said = failed.stdout + failed.stderr
    assert "small-Q4_0.gguf: the test pp999999 needs a context of 999999 tokens; its own is" in said
    assert "work/" not in said


def test_a_plan_says_that_the_program_is_not_here(make_project: Callable[..., Project], tmp_path: Path) -> None:
    project = make_project(text=MEASURED.replace("threads = 1", 'runtime = "llama.cpp"'))
    said = "there is no llama-bench on PATH, which [bench] measures with; install llama.cpp, or leave out `runtime`"
    assert said in project.run("quantmill", "plan", "small").stdout
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "llama-bench"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    there = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    assert "llama-bench" not in project.run("quantmill", "plan", "small", PATH=there).stdout


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"pp16"', '"xx16"', "bench.tests: 'xx16' is no test; write pp512 for a prompt, tg128 to generate"),
        ('"pp16"', '"tg4"', "bench.tests: tg4 is listed twice; once is enough"),
        (
            'ftypes = ["Q4_0"',
            'ftypes = ["Q8_0"',
            "bench.ftypes: Q8_0 is not in the matrix; add it there or remove it here",
        ),
        ("threads = 1", "threads = 0", "bench.threads: 0 measure nothing; give 1 or more, or leave it out for all"),
        ("threads = 1", 'runtime = "vllm"', "bench.runtime: 'vllm' is not one of kernels, llama.cpp"),
    ],
)
def test_what_a_recipe_says_wrong(make_project: Callable[..., Project], old: str, new: str, message: str) -> None:
    project = make_project(text=MEASURED)
    project.edit(old, new)
    failed = project.run("quantmill", "plan", "small", check=2)
    assert failed.stderr == f"quantmill: recipes/small.toml: {message}\n"
