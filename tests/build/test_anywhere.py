"""One release, built in other folders, by other users, at other levels of the kernels: the same tag and bytes."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from projects import ROOT, Project
from quantmill import _kernels

LEVELS = _kernels.isa_levels()
NOBODY = 65534
# Everything that a release may hold but speeds, which are a host's: a matrix that is measured, shards, quality.
RECIPE = """
llama_cpp = "b5490"
prefix = "small"
[base]
path = "tiny"
name = "Small"
[calibration]
text = "tiny/calibration.txt"
n_ctx = 100
chunks = 2
[evaluation]
text = "tiny/evaluation.txt"
n_ctx = 100
chunks = 1
[quants]
matrix = ["BF16", "Q8_0", "Q4_K_M", "IQ3_XXS"]
[split]
max_size = "3MB"
[card]
license = "mit"
[publish]
owner = "someone"
"""


@dataclass(frozen=True)
class Place:
    """Where and how a build runs."""

    folder: str
    level: str
    threads: int
    umask: int
    environment: dict[str, str]
    other_user: bool = False


PLACES = (
    Place("here", LEVELS[0], 1, 0o022, {"TZ": "UTC", "LC_ALL": "C.UTF-8", "USER": "someone"}),
    Place(
        "elsewhere/with spaces/ünd",
        LEVELS[-1],
        3,
        0o077,
        {"TZ": "Pacific/Kiritimati", "LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8", "USER": "nobody"},
        other_user=True,
    ),
    Place(
        "third",
        LEVELS[len(LEVELS) // 2],
        2,
        0o002,
        # a terminal of before UTF-8
        {"TZ": "America/St_Johns", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "USER": "other"},
    ),
)


def as_nobody() -> list[str]:
    """What to put before a command that another user is to run: one that may write nothing of ours, and read all, as
    the Python that runs this may lie in a folder of root's. Nothing where this process may not change its user."""
    command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    command += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search", "--"]
    if os.geteuid() or not shutil.which("setpriv"):
        return []
    return command if subprocess.run([*command, sys.executable, "-c", ""], capture_output=True).returncode == 0 else []


def build(folder: Path, place: Place) -> Project:
    project = Project(folder)
    (folder / "recipes").mkdir(parents=True)
    shutil.copytree(ROOT / "recipes" / "tiny", folder / "recipes" / "tiny")
    project.recipe.write_text(RECIPE)
    home = folder / "home"
    home.mkdir()
    before = as_nobody() if place.other_user else []
    for path in (folder, *folder.rglob("*")) if before else ():
        os.chown(path, NOBODY, NOBODY)
    done = subprocess.run(
        [*before, str(Path(sys.executable).with_name("quantmill")), "build", "small", "--threads", str(place.threads)],
        cwd=folder,
        env={**os.environ, "HOME": str(home), "QUANTMILL_ISA": place.level, **place.environment},
        umask=place.umask,
        capture_output=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    owners = {path.stat().st_uid for path in (folder / "release").rglob("*")}
    assert owners == {NOBODY if before else os.geteuid()}
    return project


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> list[Project]:
    return [build(tmp_path_factory.mktemp("anywhere") / place.folder, place) for place in PLACES]


def digests(project: Project) -> dict[str, str]:
    return {name: hashlib.sha256(data).hexdigest() for name, data in project.release().items()}


def test_every_file_has_the_same_bytes(built: list[Project]) -> None:
    first, *others = map(digests, built)
    assert [digests == first for digests in others] == [True, True]
    pages = {"README.md", "README.zh-CN.md", "README.zh-TW.md", "README.ja.md", "report.html", "chart.svg"}
    proof = {"SHA256SUMS", "release.json", "provenance.json", "small.toml", "small.lock", "small.imatrix"}
    assert first.keys() > pages | proof
    assert {name.partition("/")[0] for name in first.keys() - pages - proof} == {
        *("small-bf16", "small-Q8_0", "small-Q4_K_M.gguf", "small-IQ3_XXS.gguf"),
    }


def test_the_tag_is_the_same(built: list[Project]) -> None:
    tags = {json.loads(project.release()["release.json"])["tag"] for project in built}
    planned = json.loads(built[0].run("quantmill", "plan", "small", "--json").stdout)["release_tag"]
    assert tags == {planned}


def test_the_places_differ(built: list[Project]) -> None:
    """What is compared was made in ways that do differ, as far as this machine has them."""
    assert len({place.level for place in PLACES}) == min(len(LEVELS), len(PLACES))
    modes = {(project.folder / "build" / "small" / "card.json").stat().st_mode & 0o777 for project in built}
    assert modes == {0o644, 0o600, 0o664}
