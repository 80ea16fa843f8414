"""A bit that flips in what a build has finished, before the build ends."""

import os
from collections.abc import Callable

import pytest

from projects import RECIPE, Project

FLIPPING = """
import os, time
from pathlib import Path
from quantmill.build import release_folder

lay_out = release_folder.Tree.lay_out


def flip(path, kept):
    stat = path.stat()
    path.chmod(0o644)
    with open(path, "r+b") as file:
        file.seek(stat.st_size // 2)
        byte = file.read(1)[0]
        file.seek(stat.st_size // 2)
        file.write(bytes([byte ^ 4]))
    path.chmod(stat.st_mode)
    if kept:
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def damaging(self, *rest):
    lay_out(self, *rest)
    left = int(os.environ["TIMES"])
    if left:
        os.environ["TIMES"] = str(left - 1)
        time.sleep(0.05)  # past the tick of the clock that files' times are read off
        pattern = os.environ["WHICH"]
        path = max(Path().glob(pattern), key=lambda path: path.stat().st_size)
        flip(path, os.environ["KEPT"] == "yes")
        print("flipped")


release_folder.Tree.lay_out = damaging
"""
SPLIT = RECIPE + '\n[split]\nmax_size = "3MB"\n'


def flipping(project: Project, which: str, kept: str, times: int) -> dict[str, str]:
    """The environment of a build whose files of those names are damaged each time the release was laid out."""
    (project.folder / "sitecustomize.py").write_text(FLIPPING)
    path = os.pathsep.join(filter(None, [str(project.folder), os.environ.get("PYTHONPATH", "")]))
    return {"PYTHONPATH": path, "WHICH": which, "KEPT": kept, "TIMES": str(times)}


@pytest.mark.parametrize("kept", ["yes", "no"])
@pytest.mark.parametrize(
    ("text", "which"),
    [
        (RECIPE, "release/small/*Q4_K_M*.gguf"),
        (RECIPE, "release/small/README.md"),
        (RECIPE, "release/small/SHA256SUMS"),
        (RECIPE, "build/small/card.json"),
        (SPLIT, "release/small/**/*Q8_0*.gguf"),
        (SPLIT, "cache/cas/*/*"),
    ],
)
def test_what_was_damaged_before_the_build_ends_is_made_anew(
    text: str, which: str, kept: str, make_project: Callable[..., Project]
) -> None:
    want = make_project("right", text)
    want.run("doit")
    project = make_project("hit", text)
    done = project.run("doit", **flipping(project, which, kept, 1))
    assert "flipped" in done.stdout
    assert "it was damaged after it was made, and is made anew" in done.stdout
    assert project.release() == want.release()
    assert project.ran("doit") == []


def test_a_file_found_in_the_store_is_looked_at_too(make_project: Callable[..., Project]) -> None:
    """The release is laid out again, and nothing else is done: a file that was up to date is hit."""
    project = make_project()
    project.run("doit")
    want = project.release()
    (project.folder / "release/small/README.md").unlink()
    done = project.run("doit", **flipping(project, "release/small/*Q2_K*.gguf", "yes", 1))
    assert "flipped" in done.stdout
    assert project.release() == want


@pytest.mark.parametrize("command", [("doit",), ("quantmill", "build", "recipes/small.toml")])
def test_what_is_damaged_every_time_fails_the_build(command: tuple[str, ...], project: Project) -> None:
    failed = project.run(*command, check=1, **flipping(project, "release/small/*Q8_0*.gguf", "yes", 99))
    assert "quantmill: quant:small/Q8_0: it was damaged 3 times while the build ended; look after the disk" in failed.stderr
    assert "Traceback" not in failed.stderr
    project.run("doit")
