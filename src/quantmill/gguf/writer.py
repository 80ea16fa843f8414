"""Writing a GGUF file: the header first, then every tensor's bytes in order, streamed; whole or not at all."""

import errno
import os
from collections.abc import Iterable
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from quantmill.gguf.errors import GGUFError, write_failed, wrong_byte_count
from quantmill.gguf.layout import TensorEntry, TensorInfo, data_size, header, padded
from quantmill.gguf.values import KV
from quantmill.output_file import OutputFile

if TYPE_CHECKING:
    from typing_extensions import Buffer

_CHUNK = 8 << 20  # bytes copied at a time where the kernel cannot copy by itself
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_CANNOT_COPY = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.ETXTBSY, errno.EIO)


class Writer:
    """A context manager that writes one GGUF file.

    Arguments are those of `header`. Inside the context, `append` takes the tensors' bytes in order, a tensor in as
    many pieces as the caller likes; no piece may reach into the next tensor. Each tensor is padded to the alignment,
    the last one too, as llama.cpp does. A clean exit makes the file appear at its path, durable; after any other it is
    gone. So the name never shows a part of a file. One thread writes.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        kvs: Iterable[KV],
        tensors: Iterable[TensorEntry],
        place: str | None = None,
    ) -> None:
        self.path = Path(path)
        self.place = place or str(path)
        kvs = list(kvs)
        self._header, self.tensors = header(kvs, tensors, place=self.place)
        named = next((entry.value for entry in kvs if entry.key == "general.alignment"), None)
        self.alignment: int = named or 32
        self.size = len(self._header) + data_size(self.tensors, self.alignment)
        """Bytes of the finished file."""
        self.written = 0
        self._current = 0  # the tensor that is being written
        self._given = 0  # its bytes so far
        self._output: OutputFile | None = None
        self._file: FileIO | None = None

    def __enter__(self) -> Self:
        try:
            self._output = OutputFile(self.path)
            self._file = self._output.__enter__().file
        except OSError as error:
            raise self._failed(error) from None
        try:
            self._write(self._header)
        except BaseException:
            self._discard()
            raise
        return self

    def append(self, data: "Buffer") -> None:
        """Writes the next bytes of the current tensor; any contiguous buffer will do, a numpy array too.

        Raises a GGUFError when they are more than it lacks, and when they cannot be written.
        """
        view = memoryview(data).cast("B")
        self._take(len(view))
        self._write(view)
        self._pad()

    def append_from(self, descriptor: int, offset: int, count: int) -> None:
        """Like `append`, with `count` bytes at `offset` of an open file, copied by the kernel where it can."""
        self._take(count)
        while count:
            copied = self._copy(descriptor, offset, count)
            if not copied:
                raise write_failed(self.place, "a file that is copied became shorter meanwhile")
            offset, count = offset + copied, count - copied
        self._pad()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is not None:
            self._discard()
            return
        try:
            if self._current < len(self.tensors):
                info = self.tensors[self._current]
                raise wrong_byte_count(self.place, info.name, self._given, info.nbytes)
            self._finish()
        except BaseException:
            self._discard()
            raise

    def _info(self) -> TensorInfo | None:
        return self.tensors[self._current] if self._current < len(self.tensors) else None

    def _take(self, count: int) -> None:
        info = self._info()
        if info is None:
            if count:
                raise wrong_byte_count(self.place, "after the last one", count, 0)
        elif self._given + count > info.nbytes:
            raise wrong_byte_count(self.place, info.name, self._given + count, info.nbytes)
        self._given += count

    def _pad(self) -> None:
        info = self._info()
        if info is not None and self._given == info.nbytes:
            self._write(bytes(padded(self._given, self.alignment) - self._given))
            self._current, self._given = self._current + 1, 0

    def _open(self) -> FileIO:
        if self._file is None:
            raise write_failed(self.place, "the writer is not open")
        return self._file

    def _write(self, data: bytes | memoryview) -> None:
        file, view = self._open(), memoryview(data)
        try:
            while view:
                count = file.write(view)
                self.written += count
                view = view[count:]
        except OSError as error:
            raise self._failed(error) from None

    def _copy(self, descriptor: int, offset: int, count: int) -> int:
        file = self._open()
        try:
            if hasattr(os, "copy_file_range"):
                copied = os.copy_file_range(descriptor, file.fileno(), min(count, 1 << 30), offset)
                if copied:  # some file systems report 0 where they cannot copy
                    self.written += copied
                    return copied
        except OSError as error:
            if error.errno not in _CANNOT_COPY:
                raise self._failed(error) from None
        try:
            data = os.pread(descriptor, min(count, _CHUNK), offset)
        except OSError as error:
            raise write_failed(self.place, f"reading what it is copied from: {error.strerror}") from None
        self._write(data)
        return len(data)

    def _finish(self) -> None:
        if self._output is not None:
            try:
                self._output.put()
            except OSError as error:
                raise self._failed(error) from None
            self._output.__exit__(None, None, None)

    def _discard(self) -> None:
        if self._output is not None:
            self._output.__exit__(None, None, None)

    def _failed(self, error: OSError) -> GGUFError:
        if error.errno in _FULL:
            return GGUFError(
                f"{self.place}: the disk is full after {self.written} of {self.size} bytes; free "
                f"{self.size - self.written} bytes there and run again"
            )
        return write_failed(self.place, error.strerror or str(error))
