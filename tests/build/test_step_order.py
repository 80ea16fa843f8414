"""Tasks side by side and in any order make the same bytes, and publish no more at a time than they may."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hub_upload_server import INITIAL, UploadHub
from projects import RECIPE, Project, new_project
from published import REPO, environment, git, tag
from step_order import shuffled

TEXT = RECIPE.replace('"Q8_0"', '"Q8_0", "Q6_K"')
AS_BUILT = f'{TEXT}\n[publish]\nowner = "someone"\nas_built = true\nkeep_files = 1\n'


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    project = new_project(tmp_path_factory.mktemp("whole") / "project", TEXT)
    project.run("quantmill", "build", "small")
    return project.release()


@pytest.fixture
def hub() -> Iterator[UploadHub]:
    server = UploadHub(seed=7)
    yield server
    server.close()


def order(said: str) -> list[str]:
    return [line for line in said.splitlines() if line.startswith("quant:")]


def test_four_at_a_time_in_any_order(whole: dict[str, bytes], tmp_path: Path) -> None:
    orders = set()
    for seed in range(3):
        project = new_project(tmp_path / f"project{seed}", TEXT)
        done = project.run("quantmill", "build", "small", "-n", "4", **shuffled(tmp_path / "start", seed))
        assert project.release() == whole
        orders.add(tuple(order(done.stdout)))
    assert len(orders) > 1


@pytest.mark.parametrize("seed", [1, 2])
def test_what_is_published_as_built_in_any_order(
    seed: int, whole: dict[str, bytes], hub: UploadHub, tmp_path: Path
) -> None:
    project = new_project(tmp_path / "project", AS_BUILT)
    project.run("quantmill", "lock", "small")
    git(project, "init", "-q", "-b", "main")
    git(project, "add", "recipes")
    git(project, "commit", "-q", "-m", "recipe")
    seen: list[int] = []
    hub.watch = lambda: seen.append(here(project))
    known = environment(hub, tmp_path) | shuffled(tmp_path / "start", seed)
    done = project.run("quantmill", "build", "small", "-n", "4", **known)
    assert order(done.stdout) == [f"quant:small/{ftype}" for ftype in ("Q8_0", "Q6_K", "Q4_K_M", "Q2_K")]
    assert max(seen) == 2
    content = hub.content(REPO, tag(project))
    weights = {name: data for name, data in whole.items() if name.endswith(".gguf")}
    assert {name: data for name, data in content.items() if name.endswith(".gguf")} == weights
    assert content.items() >= INITIAL.items()


def here(project: Project) -> int:
    """How many objects of weights the store has."""
    found = 0
    for path in project.folder.rglob("cache/cas/*/*"):
        try:
            found += path.stat().st_size > 10**6
        except FileNotFoundError:  # let go just now
            continue
    return found
