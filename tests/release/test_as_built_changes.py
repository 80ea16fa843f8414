"""build --publish where something changes between two builds: the recipe, the Hub, the store, what else is built."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from hub_upload_server import UploadHub
from projects import RECIPE, Project, new_project
from published import REPO, environment, git, tag
from quantmill.recipe.git import tag as git_tag

MATRIX = '["Q8_0", "Q4_K_M", "Q2_K"]'
PLAIN = RECIPE.replace('["BF16", "Q8_0", "Q4_K_M", "Q2_K"]', MATRIX)
TEXT = f'{PLAIN}\n[publish]\nowner = "someone"\nas_built = true\nkeep_files = 1\n'


def project_of(folder: Path, text: str = TEXT) -> Project:
    project = new_project(folder, text)
    project.run("quantmill", "lock", "small")
    git(project, "init", "-q", "-b", "main")
    commit(project)
    return project


def commit(project: Project) -> None:
    project.run("quantmill", "lock", "small")
    git(project, "add", "recipes")
    git(project, "commit", "-q", "-m", "recipe")


@pytest.fixture
def hub() -> Iterator[UploadHub]:
    server = UploadHub(seed=7)
    yield server
    server.close()


def test_an_older_release_does_not_go_over_a_newer_one(hub: UploadHub, tmp_path: Path) -> None:
    """Built once more elsewhere, from the older recipe: its tag is there, and main is another release's."""
    project, known = project_of(tmp_path / "project"), environment(hub, tmp_path)
    project.run("quantmill", "build", "small", **known)
    shutil.copytree(project.folder, tmp_path / "old", ignore=shutil.ignore_patterns("cache", "build", "release"))
    old = Project(tmp_path / "old")
    project.edit('name = "Small"', 'name = "Smaller"')
    commit(project)
    project.run("quantmill", "build", "small", **known)
    newer = hub.content(REPO, "main")
    old.run("quantmill", "build", "small", **known)
    assert hub.content(REPO, "main") == newer
    assert hub.again == 0
    old.edit(MATRIX, '["Q8_0", "Q3_K_S"]')
    commit(old)
    old.run("quantmill", "build", "small", **known)
    assert {"small-Q8_0.gguf", "small-Q3_K_S.gguf"} == {name for name in hub.content(REPO, "main") if "gguf" in name}


def test_a_smaller_matrix_before_the_release_was_whole(hub: UploadHub, tmp_path: Path) -> None:
    project, known = project_of(tmp_path / "project"), environment(hub, tmp_path)
    project.run("quantmill", "build", "small", "--only", "Q2_K", "--only", "Q8_0", **known)
    project.edit(MATRIX, '["Q4_K_M", "Q8_0"]')
    commit(project)
    repo = hub.repos[REPO]
    repo.commit(repo.commits[-1][1] | {"mine.gguf": b"of somebody else"}, "by hand")
    done = project.run("quantmill", "build", "small", **known)
    assert "remove    small-Q2_K.gguf, of an earlier release" in done.stdout
    content = hub.content(REPO, tag(project))
    assert {name for name in content if "gguf" in name} == {"small-Q8_0.gguf", "small-Q4_K_M.gguf", "mine.gguf"}


def test_another_repository_gets_all_files(hub: UploadHub, tmp_path: Path) -> None:
    project, known = project_of(tmp_path / "project"), environment(hub, tmp_path)
    project.run("quantmill", "build", "small", **known)
    before = hub.content(REPO, "main")
    project.edit('owner = "someone"', 'repo = "someone/other"')
    commit(project)
    project.run("quantmill", "build", "small", **known)
    assert hub.content("someone/other", tag(project)).keys() == before.keys()
    assert {
        n: d for n, d in hub.content("someone/other", "main").items() if n.endswith(".gguf")
    }.items() <= before.items()


def test_two_builds_at_a_time(hub: UploadHub, tmp_path: Path) -> None:
    project, known = project_of(tmp_path / "project"), environment(hub, tmp_path)
    runs = [
        subprocess.Popen(
            [str(Path(sys.executable).parent / "quantmill"), "build", "small", "-n", "2"],
            cwd=project.folder,
            env={**os.environ, **known},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    said = [run.communicate(timeout=600)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    assert hub.again == 0


def test_two_that_set_a_tag_at_a_time(tmp_path: Path) -> None:
    project = project_of(tmp_path / "project")
    with ThreadPoolExecutor(8) as pool:
        for name in "abcdefgh":
            assert sum(pool.map(partial(git_tag, project.folder), [name] * 8)) == 1


def test_another_recipe_that_has_the_same_file(hub: UploadHub, tmp_path: Path) -> None:
    project, known = project_of(tmp_path / "project"), environment(hub, tmp_path)
    (project.folder / "recipes" / "plain.toml").write_text(PLAIN)
    project.run("quantmill", "build", "plain", **known)
    tree = project.folder / "release" / "plain"
    plain = {path.name: path.read_bytes() for path in tree.iterdir()}
    project.run("quantmill", "build", "small", **known)
    for call in (("quantmill", "build", "plain"), ("quantmill", "cache", "verify")):
        project.run(*call, **known)
        assert {path.name: path.read_bytes() for path in tree.iterdir()} == plain
    shutil.rmtree(tree)
    project.run("quantmill", "build", "plain", **known)
    assert {path.name: path.read_bytes() for path in tree.iterdir()} == plain
    project.run("quantmill", "build", "small", **known)
    assert hub.again == 0
