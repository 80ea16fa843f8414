"""A base on the Hub, as several tests have it: the repository acme/tiny at an olah on loopback, and a project of it."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hub_helpers import WEIGHTS
from hub_server import Front, Repository
from projects import RECIPE, TINY, Project

README = b"---\nlicense: mit\nlanguage:\n- en\ntags:\n- tiny\n---\n# Tiny\n\nA small model.\n"
HUB = RECIPE.replace('path = "tiny"', 'repo = "acme/tiny"').replace(
    '"BF16", "Q8_0", "Q4_K_M", "Q2_K"', '"BF16", "Q8_0"'
)
LOCAL = HUB.replace('repo = "acme/tiny"', 'path = "tiny"')


def tiny_files() -> dict[str, bytes]:
    names = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", WEIGHTS)
    return {name: (TINY / name).read_bytes() for name in names} | {"README.md": README}


class Hub:
    """The front, and the repository acme/tiny behind it with one commit on main."""

    def __init__(self, front: Front, repository: Repository, first: str) -> None:
        self.front, self.repository, self.first = front, repository, first


@pytest.fixture
def hub(mirrors: tuple[Path, int]) -> Iterator[Hub]:
    folder, port = mirrors
    shutil.rmtree(folder / "acme", ignore_errors=True)
    repository = Repository(folder / "acme" / "tiny")
    front = Front(port)
    yield Hub(front, repository, repository.commit(tiny_files()))
    front.close()


@pytest.fixture
def project(make_project: Callable[..., Project], hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Project:
    """A project whose base is acme/tiny at main; the Hub's own cache is empty."""
    monkeypatch.setenv("HF_ENDPOINT", hub.front.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "5")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    made = make_project("hub", HUB)
    shutil.rmtree(made.folder / "recipes" / "tiny")
    return made
