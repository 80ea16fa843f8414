"""The base of a quantization: one GGUF file, or all shards of a split one."""

import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from quantmill import gguf
from quantmill.errors import UsageError
from quantmill.gguf.errors import changed, unreadable
from quantmill.gguf.layout import TensorEntry, TensorInfo
from quantmill.gguf.shard_set import all_shards, check_shards, lone_shard, number_of
from quantmill.gguf.shards import COUNT, NO
from quantmill.gguf.values import KV

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Source:
    """A context manager; `files` are the open shards in order (one for a file that is not split).

    The path is the first shard's; the others lie beside it. `metadata` is that shard's, which holds the model's;
    tensors are found by name in whichever shard has them. Raises UsageError for a later shard, and a
    GGUFError when one is missing, cannot be read or does not fit the others.
    """

    def __init__(self, path: Path) -> None:
        self._stack = ExitStack()
        try:
            self.files = self._open(path)
            self.metadata: Mapping[str, KV] = self.files[0].metadata
            self._where = self._find_tensors()
        except BaseException:
            self._stack.close()
            raise

    def _open(self, path: Path) -> list[gguf.GGUFFile]:
        first = self._stack.enter_context(gguf.read(path))
        count, number = number_of(first, COUNT) or 0, (number_of(first, NO) or 0) + 1
        if count < 2:
            return [first]
        paths = all_shards(path)
        if paths is None:
            raise lone_shard(first.place, number, count)
        if path != paths[0]:
            raise UsageError(f"{first.place}: this is shard {number} of {count}; give the first one, {paths[0].name}")
        files = [first, *(self._stack.enter_context(gguf.read(other)) for other in paths[1:])]
        check_shards(files)
        return files

    def _find_tensors(self) -> dict[str, tuple[gguf.GGUFFile, TensorInfo, int]]:
        """Every tensor's file, description and a descriptor to read it by."""
        found: dict[str, tuple[gguf.GGUFFile, TensorInfo, int]] = {}
        for file in self.files:
            descriptor = self._stack.enter_context(file.descriptor())
            found |= {info.name: (file, info, descriptor) for info in file.tensors.values()}
        return found

    def shards(self) -> list[list[TensorEntry]]:
        """The tensors of every file in the order of their data."""
        return [file.tensor_entries() for file in self.files]

    def tensors(self) -> list[TensorEntry]:
        """All tensors."""
        return [tensor for shard in self.shards() for tensor in shard]

    def rename(self, names: Mapping[str, str]) -> None:
        """From now on tensors are found by the names that `names` has for theirs, others not at all."""
        self._where = {new: self._where[old] for old, new in names.items()}

    @property
    def nbytes(self) -> int:
        """Of all tensors."""
        return sum(info.nbytes for _, info, _ in self._where.values())

    def info(self, name: str) -> TensorInfo:
        """The tensor's description."""
        return self._where[name][1]

    def data(self, name: str) -> "NDArray[np.uint8]":
        """The tensor's bytes, mapped."""
        file, info, _ = self._where[name]
        return file.data(info)

    def read(self, name: str, start: int, into: "NDArray[np.uint8]") -> None:
        """Fill `into` with the tensor's bytes from byte `start` on; from any thread.

        A mapping would be slower: threads wait for each other where its pages are entered and removed. Raises
        a GGUFError when it cannot be read or has become shorter.
        """
        file, info, descriptor = self._where[name]
        view, position = into.data, file.data_offset + info.offset + start
        while view:
            try:
                got = os.preadv(descriptor, [view], position)
            except OSError as error:
                raise unreadable(file.place, error.strerror or str(error)) from None
            if not got:
                raise changed(file.place)
            view, position = view[got:], position + got

    def read_runs(self, name: str, runs: "Iterable[tuple[int, NDArray[np.uint8]]]") -> None:
        """`read` for each pair of a first byte and an array."""
        for start, into in runs:
            self.read(name, start, into)

    def named(self, name: str) -> str:
        """The tensor's name for a message, with its shard's, of several."""
        return f"{name} in {self._where[name][0].path.name}" if len(self.files) > 1 else name

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()
