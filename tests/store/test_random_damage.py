"""Whatever befalls the files of a finished project between two builds, the next ones bring the release back.

benchmarks/rot.py flips bits, and while a build runs, too.
"""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from projects import Project, new_project

AREAS = ("cache/cas", "cache/ac", "cache/span", "cache/memo", "cache/lock", "cache/roots", "cache/log", "cache")
AREAS += ("build", "build/.doit.db", "release")
GARBAGE = (b"null", b"[]", b"{}", b'{"outputs":{}}', b'{"outputs":[]}', b'{"key":1,"outputs":null}', b"\xff\xfe")
GARBAGE += (b"1e999", b'"x"', b'{"a":1}', b"")


def truncate(path: Path, others: list[Path], rng: random.Random) -> None:
    with open(path, "r+b") as file:
        file.truncate(rng.randrange(path.stat().st_size + 1))


def flip(path: Path, others: list[Path], rng: random.Random) -> None:
    data = bytearray(path.read_bytes() or b"\0")
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def exchange(path: Path, others: list[Path], rng: random.Random) -> None:
    other, beside = rng.choice(others), path.with_name("exchanged")
    path.rename(beside)
    if other != path:
        other.rename(path)
    beside.rename(other)


def remove_folder(path: Path, others: list[Path], rng: random.Random) -> None:
    shutil.rmtree(path.parent)


def append(path: Path, others: list[Path], rng: random.Random) -> None:
    with open(path, "ab") as file:
        file.write(rng.randbytes(rng.randrange(1, 5000)))


def other_text(path: Path, others: list[Path], rng: random.Random) -> None:
    path.unlink()
    path.write_bytes(rng.choice(GARBAGE))


def a_folder(path: Path, others: list[Path], rng: random.Random) -> None:
    path.unlink()
    path.mkdir()
    (path / "x").write_text("x")


def a_link(path: Path, others: list[Path], rng: random.Random) -> None:
    path.unlink()
    path.symlink_to("/nonexistent/x")


DAMAGES: dict[str, Callable[[Path, list[Path], random.Random], None]] = {
    "delete": lambda path, others, rng: path.unlink(),
    "zero": lambda path, others, rng: path.write_bytes(bytes(path.stat().st_size)) and None,
    **{made.__name__: made for made in (truncate, flip, exchange, remove_folder, append, other_text, a_folder, a_link)},
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = new_project(tmp_path_factory.mktemp("built"))
    project.run("doit")
    return project


@pytest.mark.parametrize("seed", range(24))
def test_a_release_comes_back(seed: int, built: Project, tmp_path: Path) -> None:
    rng, project = random.Random(seed), Project(tmp_path / "project")
    shutil.copytree(built.folder, project.folder, symlinks=True)
    for number in range(rng.choice([1, 1, 2, 5])):
        area = project.folder / rng.choice(AREAS)
        files = [path for path in ([area] if area.is_file() else sorted(area.rglob("*"))) if path.is_file()]
        if files:
            path, name = rng.choice(files), list(DAMAGES)[(seed + number) % len(DAMAGES)]
            if path.parent in (project.folder, project.folder / "build") and name == "remove_folder":
                name = "delete"
            path.chmod(0o644)
            DAMAGES[name](path, files, rng)
    codes, said = [1], ""
    while codes[-1] and len(codes) < 4:
        done = project.run("doit", check=None)
        codes.append(done.returncode)
        said += done.stdout + done.stderr
    assert codes[-1] == 0, said
    assert "Traceback" not in said
    assert project.release() == built.release()
    assert " 0 damaged" in project.run("quantmill", "cache", "verify", check=None).stdout
    assert project.run("doit").stdout == "nothing to do: everything is up to date\n"
