"""build --check on workers: one of them computes wrongly, and another says so."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dask_cluster import Cluster, started
from projects import RECIPE, Project, wrong_machine
from quantmill.store.descent import records
from team import Team, payload

TWO_FILES = RECIPE.replace('"BF16", "Q8_0", "Q4_K_M", "Q2_K"', '"Q4_K_M", "Q2_K"')
IN_PARTS = """
import sys
from pathlib import Path
from quantmill.distributed import parts
from quantmill.distributed.driver import Cluster, build

if __name__ == "__main__":
    parts.FILES_A_WORKER = 10**6
    cluster = Cluster(sys.argv[1], insecure=True)
    sys.exit(build(Path("recipes/small.toml"), Path.cwd(), [], False, cluster, 0, float(sys.argv[2])))
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with started(tmp_path / "dask") as running:
        yield running


@pytest.fixture
def wrong(tmp_path: Path) -> str:
    return wrong_machine(tmp_path / "site", os.environ.get("PYTHONPATH", ""))


def build(cluster: Cluster, *options: str) -> tuple[str, ...]:
    scheduler = ("--engine", "dask", "--scheduler", cluster.address, "--insecure")
    return ("quantmill", "build", "small", *scheduler, *options)


def files(folder: Path) -> set[tuple[str, str]]:
    """The files that a store's quant steps made: a record's name and a digest each."""
    found = records(folder)
    return {(name, one["outputs"]["model.gguf"]["sha256"]) for name, one in found if one["key"]["step"] == "quant"}


@pytest.fixture
def right(make_project: Callable[..., Project]) -> Project:
    """The same, built by one machine that computes rightly."""
    alone = make_project("alone", TWO_FILES)
    alone.run("quantmill", "build", "small")
    return alone


def test_a_worker_that_computes_wrongly_is_named(
    cluster: Cluster, wrong: str, right: Project, make_project: Callable[..., Project]
) -> None:
    project = make_project("project", TWO_FILES)
    cluster.start("--name", "bad", PYTHONPATH=wrong)
    cluster.start("--name", "good")
    failed = project.run(*build(cluster, "--check", "100%"), check=1)
    assert ".weight came out otherwise on the worker tcp://127.0.0.1:" in failed.stderr
    assert "one of them computes wrongly; test their memory and cores, or leave one out." in failed.stderr
    assert "Traceback" not in failed.stderr + failed.stdout
    assert files(project.folder / "cache") < files(right.folder / "cache")  # what was found wrong is forgotten


def test_two_good_workers_make_what_one_machine_makes(
    cluster: Cluster, right: Project, make_project: Callable[..., Project]
) -> None:
    """Whole files, and parts."""
    for number in range(2):
        cluster.start("--name", str(number))
    whole = make_project("whole", TWO_FILES)
    whole.run(*build(cluster, "--check", "50%"))
    cut = make_project("cut", TWO_FILES)
    (cut.folder / "build.py").write_text(IN_PARTS)
    cut.run("python", "build.py", cluster.address, "0.5")
    assert whole.release() == right.release()
    assert cut.release() == right.release()


def test_a_worker_of_its_own_store_forgets_and_takes_back(
    cluster: Cluster, wrong: str, right: Project, tmp_path: Path, make_project: Callable[..., Project]
) -> None:
    """Also what it had sent to the shared store."""
    team = Team(tmp_path, f"file://{tmp_path / 'shared'}")
    project = team.join(make_project("project", TWO_FILES), sign=True)
    cluster.start("--name", "bad", QUANTMILL_CACHE=str(tmp_path / "bad"), PYTHONPATH=wrong)
    cluster.start("--name", "good", QUANTMILL_CACHE=str(tmp_path / "good"))
    failed = project.run(*build(cluster, "--check", "100%"), check=1)
    assert ".weight came out otherwise on the worker tcp://127.0.0.1:" in failed.stderr
    for folder in (tmp_path / "bad", tmp_path / "good", project.folder / "cache"):
        assert files(folder) <= files(right.folder / "cache")
    made = dict(files(right.folder / "cache"))
    for path in (tmp_path / "shared" / "ac").iterdir():
        if path.name in made:
            assert payload(path)["outputs"]["model.gguf"]["sha256"] == made[path.name]
