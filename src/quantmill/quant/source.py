"""The base of a quantization: one GGUF file, or all shards of a split one."""

import os
import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from quantmill import gguf
from quantmill.errors import QuantmillError
from quantmill.gguf.errors import Changed, Unreadable
from quantmill.gguf.layout import TensorInfo
from quantmill.gguf.shards import COUNT, NO, TENSORS
from quantmill.gguf.values import KV
from quantmill.quant.mix import Tensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class BrokenSplit(QuantmillError):
    """The shards of a split base are not all there, or do not belong together."""


class Source:
    """A context manager; `files` are the open shards in order (one for a file that is not split).

    `metadata` is the first shard's, which holds the model's; tensors are found by name in whichever shard has them.
    """

    def __init__(self, path: Path) -> None:
        self._stack = ExitStack()
        try:
            self.files = [self._stack.enter_context(gguf.read(path))]
            self.metadata: Mapping[str, KV] = self.files[0].metadata
            count = self._number(0, COUNT) if COUNT in self.metadata else 1
            if count > 1:
                self._open_others(path, count)
            self._where = self._find_tensors()
            if len(self.files) > 1 and self._number(0, TENSORS) != len(self._where):
                raise BrokenSplit(
                    f"{path}: its shards hold {len(self._where)} tensors, but {TENSORS} says {self._number(0, TENSORS)}"
                )
        except BaseException:
            self._stack.close()
            raise

    def _find_tensors(self) -> dict[str, tuple[gguf.GGUFFile, TensorInfo, int]]:
        """Every tensor's file, description and a descriptor to read it by."""
        found: dict[str, tuple[gguf.GGUFFile, TensorInfo, int]] = {}
        for file in self.files:
            descriptor = self._stack.enter_context(file.descriptor())
            for info in file.tensors.values():
                if info.name in found:
                    raise BrokenSplit(f"{file.path}: the tensor {info.name} is in another shard already")
                found[info.name] = (file, info, descriptor)
        return found

    def _open_others(self, path: Path, count: int) -> None:
        if self._number(0, NO) != 0:
            raise BrokenSplit(f"{path}: is shard {self._number(0, NO) + 1} of {count}; give the first one")
        match = re.fullmatch(rf"(.+)-00001-of-{count:05d}\.gguf", path.name, re.DOTALL)
        if match is None:
            raise BrokenSplit(f"{path}: a first shard of {count} is named <name>-00001-of-{count:05d}.gguf")
        for index in range(1, count):
            other = path.with_name(f"{match[1]}-{index + 1:05d}-of-{count:05d}.gguf")
            self.files.append(self._stack.enter_context(gguf.read(other)))
            if NO not in self.files[index].metadata or self._number(index, NO) != index:
                raise BrokenSplit(f"{other}: its {NO} does not say that it is shard {index + 1} of {count}")

    def _number(self, index: int, key: str) -> int:
        file = self.files[index]
        value = file.metadata[key].value if key in file.metadata else None
        if not isinstance(value, int):
            raise BrokenSplit(f"{file.path}: {key} is {value!r}; a split file has a number there")
        return value

    def shards(self) -> list[list[Tensor]]:
        """The tensors of every file in the order of their data."""
        return [[(info.name, info.shape, info.type) for info in file.tensors.values()] for file in self.files]

    def tensors(self) -> list[Tensor]:
        """All tensors."""
        return [tensor for shard in self.shards() for tensor in shard]

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
        Unreadable, and Changed when the file has become shorter.
        """
        file, info, descriptor = self._where[name]
        view, position = into.data, file.data_offset + info.offset + start
        while view:
            try:
                got = os.preadv(descriptor, [view], position)
            except OSError as error:
                raise Unreadable(file.place, error.strerror or str(error)) from None
            if not got:
                raise Changed(file.place)
            view, position = view[got:], position + got

    def path(self, name: str) -> Path:
        """The file that holds the tensor."""
        return self._where[name][0].path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()
