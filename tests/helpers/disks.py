"""What programs are starved of in tests: disks that are full or read-only, as file systems of their own where this
process may mount them, as root may, and elsewhere by limits that anyone may set, on the size of a file and by rights
on folders; and memory."""

import ctypes
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE = 24, 1  # linux/prctl.h, linux/capability.h
MEGABYTE = 1 << 20
CALL = """
import importlib, resource, sys
from pathlib import Path
from quantmill.errors import QuantmillError
import numpy
module, name, path = sys.argv[1:]
call = getattr(importlib.import_module(module), name)
resource.setrlimit(resource.RLIMIT_DATA, (1 << 30, 1 << 30))
folder = Path(path)
try:
    more = {"name": "X"} if name == "metadata" else {}
    call({file.name: file for file in folder.iterdir()} if folder.is_dir() else folder, **more)
    print("done")
except QuantmillError as error:
    print(error)
"""


def heed_rights() -> None:
    """Before a program starts: let root's programs heed the rights on files, as anyone's do."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE, 0, 0, 0)


def mount(*arguments: Any) -> bool:
    """Whether it went well."""
    return (
        shutil.which("mount") is not None
        and not subprocess.run(["mount", *map(str, arguments)], capture_output=True).returncode
    )


class SmallDisk:
    """`path` is a folder on a disk of 12 MB, or else files cannot grow beyond 1 MB while the disk counts as small.

    `steps` are sizes at which a build fails, each later than the one before; `said` are the errors' words.
    """

    def __init__(self, path: Path) -> None:
        path.mkdir()
        self.path = path
        self.mounted = mount("-t", "tmpfs", "-o", "size=12m", "tmpfs", path)
        self.steps = (12, 16, 20, 24) if self.mounted else (1,)
        self.said = "o space left" if self.mounted else "File too large"
        self._hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]

    def resize(self, megabytes: int) -> None:
        if self.mounted:
            assert mount("-o", f"remount,size={megabytes}m", self.path)
        else:
            self._limit(megabytes * MEGABYTE if megabytes < 100 else self._hard)

    def fill(self) -> None:
        if not self.mounted:
            self._limit(0)
            return
        with open(self.path / "filler", "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass

    def free(self) -> None:
        (self.path / "filler").unlink(missing_ok=True)
        self._limit(self._hard)

    def _limit(self, size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, self._hard))

    def close(self) -> None:
        self._limit(self._hard)
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.path)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    disk = SmallDisk(tmp_path / "disk")
    yield disk
    disk.close()


class ReadOnly:
    """Makes folders read-only; `said` are the words of the error that writing there gives."""

    said = ""

    def __init__(self) -> None:
        self._mounted: list[Path] = []
        self._rights: list[tuple[Path, int]] = []

    def __call__(self, folder: Path) -> None:
        if mount("--bind", folder, folder):
            self._mounted.append(folder)
            assert mount("-o", "remount,bind,ro", folder)
            self.said = "Read-only file system"
            return
        for path in (folder, *folder.rglob("*")):
            if not path.is_symlink():
                self._rights.append((path, path.stat().st_mode))
        for path, mode in self._rights:
            path.chmod(mode & 0o555)
        self.said = "Permission denied"

    def close(self) -> None:
        for folder in self._mounted:
            subprocess.run(["umount", folder], check=True)
        for path, mode in self._rights:
            path.chmod(mode)


@pytest.fixture
def read_only() -> Iterator[ReadOnly]:
    made = ReadOnly()
    yield made
    made.close()


def ending(module: str, name: str, path: Path) -> str:
    """The message of the call of that function with `path`, of a folder with its files by name, or `done`: in a process
    of its own that may have one gigabyte of memory and one minute."""
    done = subprocess.run(
        [sys.executable, "-c", CALL, module, name, str(path)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout) < 400
    return done.stdout.removesuffix("\n")
