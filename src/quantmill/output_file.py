"""The file that a call is to write, where its user wants it: decided before any work, and whole or not there."""

import os
import secrets
import shutil
import stat
from contextlib import suppress
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

from quantmill.errors import UsageError, heed_machine

KINDS = {stat.S_IFDIR: "a folder", stat.S_IFBLK: "a disk", stat.S_IFSOCK: "a socket"}


def check_output(path: Path, makes_folder: bool = False) -> Path:
    """The path, where a file can come to be at it; UsageError otherwise, so before any work. Its folder must be there,
    unless it is made too."""
    try:
        mode = _mode(path)
        folder = Path(os.path.realpath(path)).parent
        while makes_folder and not path.is_symlink() and not folder.exists():
            folder = folder.parent
        there = folder.is_dir()
    except OSError as error:
        heed_machine(error)
        raise UsageError(f"{path}: no file can be written there ({error.strerror}); name another") from None
    except ValueError as error:
        raise UsageError(f"{path}: no file can be written there ({error}); name another") from None
    if kind := KINDS.get(stat.S_IFMT(mode)):
        raise UsageError(f"{path}: this is {kind}; give the path of a file")
    if through(path):
        if not os.access(path, os.W_OK):
            raise UsageError(f"{path}: you may not write to it; name a file")
    elif not there:
        what = "this is no folder" if folder.exists() else "there is no such folder; make it"
        raise UsageError(f"{folder if path.is_symlink() else path.parent}: {what}, or give another path")
    elif not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"{folder}: you may not write into this folder; give another path")
    return path


def _mode(path: Path) -> int:
    """What stands at the path; 0 for nothing. Raises any other OSError."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return 0


def check_output_folder(path: Path) -> Path:
    """The path, where a folder is or can be made; UsageError otherwise."""
    if path.exists() and not path.is_dir():
        raise UsageError(f"{path}: this is no folder; name the folder to write into")
    check_output(path / "file", makes_folder=True)
    return path


def through(path: Path) -> bool:
    """Whether what is written goes through what is at the path, a device or a FIFO, instead of replacing it."""
    return path.is_char_device() or path.is_fifo()


def write_output(path: Path, data: bytes) -> None:
    """Make `data` the file at `path`, as an OutputFile. An OSError tells of `path`."""
    try:
        with OutputFile(path) as output:
            view = memoryview(data)
            while view:
                view = view[output.file.write(view) :]
            output.put()
    except OSError as error:
        error.filename, error.filename2 = os.fspath(path), None
        raise


class OutputFile:
    """A context manager: `file` appears at `path` when it is `put`, durable and whole; without that it is gone.

    Until then it has no name, so that not even SIGKILL leaves any of it; a hidden one beside `path` on file systems
    that cannot do that. A link at `path` is followed. A device or a FIFO takes the bytes as they come.
    """

    def __init__(self, path: Path) -> None:
        self._through = path if through(path) else None
        self._target = Path(os.path.realpath(path))
        self._beside = self._target.with_name(f".{self._target.name[:50]}.{secrets.token_hex(6)}.tmp")
        self.file: FileIO

    def __enter__(self) -> Self:
        self.file = FileIO(self._through, "wb") if self._through else self._nameless() or FileIO(self._beside, "xb")
        return self

    def put(self) -> None:
        """Make the file durable, and the one at `path`."""
        if self._through:
            self.file.close()
            return
        os.fsync(self.file.fileno())
        if not self._beside.exists():
            self._give_name()
        self.file.close()
        os.replace(self._beside, self._target)
        folder = os.open(self._target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with suppress(OSError):
            self.file.close()
        self._beside.unlink(missing_ok=True)

    def _nameless(self) -> FileIO | None:
        """A file without a name that can be given one; None where the system has none."""
        if not hasattr(os, "O_TMPFILE"):
            return None
        try:
            descriptor = os.open(self._target.parent, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o666)
        except OSError:
            return None
        return FileIO(descriptor, "r+b")

    def _give_name(self) -> None:
        descriptor = self.file.fileno()
        try:  # linkat, which alone follows the link; that the folder is given makes Python call it
            os.link(f"/proc/self/fd/{descriptor}", self._beside, src_dir_fd=descriptor, follow_symlinks=True)
        except OSError:  # no /proc, or a file system that promised more than it does
            with open(descriptor, "rb", closefd=False) as reader, open(self._beside, "xb") as writer:
                reader.seek(0)
                shutil.copyfileobj(reader, writer, 8 << 20)
                writer.flush()
                os.fsync(writer.fileno())
