"""Builds that are killed, starved of disk, or raced: the next one finishes, repeats nothing, and no byte is wrong."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from disks import SmallDisk, mount
from projects import RECIPE, Project, new_project

MATRIX = RECIPE.replace(
    '["BF16", "Q8_0", "Q4_K_M", "Q2_K"]', '["BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "Q3_K_M", "Q2_K"]'
)


def records(store: Path) -> dict[str, int]:
    """Each action record's inode: a step computed again would write its record again, beside this one."""
    if not (store / "ac").is_dir():
        return {}
    return {p.name: p.stat().st_ino for p in (store / "ac").iterdir() if p.name[0] != "."}


def start(project: Project, store: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [str(Path(sys.executable).parent / "doit")],
        cwd=project.folder,
        env={**os.environ, "QUANTMILL_CACHE": str(store)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


@dataclass(frozen=True)
class Whole:
    """What an undisturbed build of MATRIX makes, in how many seconds and steps."""

    files: dict[str, bytes]
    duration: float
    steps: int


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    project = new_project(tmp_path_factory.mktemp("robust") / "whole", MATRIX)
    began = time.monotonic()
    project.run("doit")
    return Whole(project.release(), time.monotonic() - began, len(records(project.folder / "cache")))


def test_killed_at_random_moments(make_project: Callable[..., Project], whole: Whole, tmp_path: Path) -> None:
    project, store = make_project("killed", MATRIX), tmp_path / "store"
    moments = random.Random(2026)
    for _ in range(20):
        known = records(store)
        run = start(project, store)
        time.sleep(moments.uniform(0.1, 0.6) * whole.duration)
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate()
        now = records(store)
        assert {name: now[name] for name in known} == known
        if len(now) == whole.steps:  # built: begin again from nothing
            store = tmp_path / f"store{len(list(tmp_path.iterdir()))}"
            project.run("doit", "clean", "-a")
    known = records(store)
    done = project.run("doit", QUANTMILL_CACHE=str(store))
    assert {name: records(store)[name] for name in known} == known
    assert "Traceback" not in done.stderr
    assert project.release() == whole.files
    assert not list((store / "work").iterdir())


def test_collectors_killed_at_random_moments(project: Project) -> None:
    """And what looks at every object: neither takes more than it may, nor leaves what others wait for."""
    moments = random.Random(2026)
    project.run("doit")
    whole = project.release()
    for action in (("gc", "--keep", "0s", "--max-size", "1MB"), ("verify",)) * 3:
        project.killed(moments, 3, "quantmill", "cache", *action)
        assert "Traceback" not in project.run("doit").stderr
        assert project.release() == whole
        assert " 0 damaged" in project.run("quantmill", "cache", "verify").stdout
    project.run("quantmill", "cache", "gc")
    assert not [path for name in ("work", "live") for path in (project.folder / "cache" / name).iterdir()]


def test_a_disk_that_fills_and_grows(make_project: Callable[..., Project], whole: Whole, small_disk: SmallDisk) -> None:
    project = make_project("full", MATRIX)
    store = small_disk.path / "store"
    for size in small_disk.steps:
        small_disk.resize(size)
        known = records(store)
        failed = project.run("doit", check=1, QUANTMILL_CACHE=str(store))
        assert small_disk.said in failed.stderr or "the disk is full" in failed.stderr
        assert "Traceback" not in failed.stderr
        assert failed.stderr.count("\n") == 1
        assert {name: records(store)[name] for name in known} == known
        assert len(records(store)) > len(known)
        assert not list((store / "work").iterdir())
        assert not [path for path in store.rglob("*") if path.name.endswith(".tmp")]
    small_disk.resize(100)
    known = records(store)
    project.run("doit", QUANTMILL_CACHE=str(store))
    assert {name: records(store)[name] for name in known} == known
    assert project.release() == whole.files


def test_a_disk_whose_inodes_run_out(project: Project, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if not mount("-t", "tmpfs", "-o", "size=100m,nr_inodes=30", "tmpfs", disk):
        pytest.skip("only root may mount")
    try:
        store, sizes = disk / "store", (30, 60, 120, 5000)
        for size in sizes:
            assert mount("-o", f"remount,nr_inodes={size}", disk)
            done = project.run("doit", check=None, QUANTMILL_CACHE=str(store))
            if size != sizes[-1]:
                assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
                assert "o space left" in done.stderr or "the disk is full" in done.stderr
        assert done.returncode == 0, done.stderr
        whole = project.release()
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
    project.run("doit", "clean", "-a")
    project.run("doit")
    assert project.release() == whole


def test_a_full_disk_under_the_build_folder_is_one_sentence(project: Project, small_disk: SmallDisk) -> None:
    (project.folder / "build").symlink_to(small_disk.path)
    small_disk.fill()
    failed = project.run("quantmill", "build", "small", check=1)
    assert "Traceback" not in failed.stderr
    assert "full" in failed.stderr or small_disk.said in failed.stderr
    small_disk.free()
    project.run("quantmill", "build", "small")
    assert "small-Q2_K.gguf" in project.release()


def test_builds_at_once_on_one_store(make_project: Callable[..., Project], whole: Whole, tmp_path: Path) -> None:
    for turn in range(10):
        store = tmp_path / f"store{turn}"
        projects = [make_project(f"{side}{turn}", MATRIX) for side in ("left", "right")]
        runs = [start(project, store) for project in projects]
        computed = 0
        for run in runs:
            stdout, stderr = run.communicate()
            assert (run.returncode, stderr) == (0, b"")
            computed += int(stdout.splitlines()[-1].split(b" run, ")[0])
        assert computed == len(records(store)) == whole.steps
        for project in projects:
            assert project.release() == whole.files
