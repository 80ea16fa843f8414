"""The fixtures that several rooms use."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from disks import read_only as read_only  # the fixture
from disks import small_disk as small_disk  # the fixture
from hub_server import olah, olah_program
from projects import RECIPE, Project, new_project
from quantmill import _kernels
from s3_server import S3Server


@pytest.fixture
def make_project(tmp_path: Path) -> Callable[..., Project]:
    """Makes projects: `make_project("a", text)`."""
    return lambda name="project", text=RECIPE: new_project(tmp_path / name, text)


@pytest.fixture
def project(make_project: Callable[..., Project]) -> Project:
    """One project, nothing built."""
    return make_project()


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server(tmp_path_factory.mktemp("s3"))
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def fastest_level_afterwards() -> Iterator[None]:
    """A test may set the level of instructions; the next one begins with the fastest."""
    level = _kernels.isa()
    yield
    _kernels.set_isa(level)


@pytest.fixture(scope="session")
def mirrors(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[tuple[Path, int]]:
    """The folder of the repositories that a running olah serves, and its port."""
    cache: pytest.Cache | None = getattr(pytestconfig, "cache", None)  # -p no:cacheprovider
    program = olah_program(cache.mkdir("olah") if cache else tmp_path_factory.mktemp("program"))
    folder = tmp_path_factory.mktemp("olah")
    (folder / "mirrors" / "models").mkdir(parents=True)
    with olah(program, folder) as port:
        yield folder / "mirrors" / "models", port
