"""A store where a mapped write moves no time, as on tmpfs."""

import mmap
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from projects import RECIPE, Project, new_project
from quantmill.store.local import Store
from quantmill.store.mapped_writes import moves_times

MEMORY = Path("/dev/shm")
NOTE = "mapped writes move no time on this file system, so that each build hashes again what it uses"


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A folder on a file system whose mapped writes move no time."""
    if not os.access(MEMORY, os.W_OK) or moves_times(MEMORY):
        pytest.skip(f"{MEMORY} is no tmpfs")
    folder = Path(tempfile.mkdtemp(dir=MEMORY))
    yield folder
    shutil.rmtree(folder)


def flip(path: Path) -> None:
    """Change a bit through a mapping, as gguf's own editor of metadata does; no time moves."""
    before = path.stat()
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[len(mapped) // 2] ^= 16
    assert (path.stat().st_mtime_ns, path.stat().st_ctime_ns) == (before.st_mtime_ns, before.st_ctime_ns)


@pytest.mark.parametrize("which", ["release/small/*Q8_0*.gguf", "release/small/README.md", "cache/cas/*/*"])
def test_a_mapped_write_is_found(which: str, in_memory: Path) -> None:
    project = new_project(in_memory / "project")
    project.run("doit")
    want = project.release()
    quiet = project.run("doit").stdout
    assert NOTE in quiet
    assert "nothing to do" in quiet
    path = max(project.folder.glob(which), key=lambda path: path.stat().st_size)
    path.chmod(0o644)  # which breaks the seal; a build makes it whole
    project.run("doit")
    flip(path)
    assert project.run("doit").stdout.count(NOTE) == 1
    assert project.release() == want


def test_a_mapped_write_to_a_copy_is_found(in_memory: Path, make_project: Callable[..., Project]) -> None:
    """The release's folder alone is in memory."""
    project = make_project("project", RECIPE)
    (project.folder / "release").symlink_to(in_memory)
    project.run("doit")
    want = project.release()
    path = next((in_memory / "small").glob("*Q8_0*.gguf"))
    flip(path)
    project.run("doit")
    assert project.release() == want


def test_each_file_system_is_asked_once(tmp_path: Path, in_memory: Path) -> None:
    for folder in (tmp_path, in_memory):
        root = folder / "store"
        root.mkdir()
        (folder / "a").write_bytes(b"a")
        artifact = Store(root).adopt(folder / "a")
        assert Store(root).has(artifact)
        told = root / "mapped"
        inode = told.stat().st_ino
        assert Store(root).has(artifact)
        assert told.stat().st_ino == inode
        assert bool(Store(root).notes()) == (folder == in_memory or not moves_times(tmp_path))
        told.write_text("{")
        assert Store(root).has(artifact)
        assert told.stat().st_ino != inode
