"""Disks that are full or read-only, for tests: file systems of their own where this process may mount them, as root
may, and elsewhere limits that anyone may set: on the size of a file, and by the rights on folders."""

import ctypes
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE = 24, 1  # linux/prctl.h, linux/capability.h
MEGABYTE = 1 << 20


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
