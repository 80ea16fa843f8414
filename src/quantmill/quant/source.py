"""The base of a quantization: one GGUF file, or all shards of a split one."""

import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from quantmill import gguf
from quantmill.errors import QuantmillError
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
        except BaseException:
            self._stack.close()
            raise
        self._where: dict[str, tuple[gguf.GGUFFile, TensorInfo]] = {}
        for file in self.files:
            for info in file.tensors.values():
                if info.name in self._where:
                    raise BrokenSplit(f"{file.path}: the tensor {info.name} is in another shard already")
                self._where[info.name] = (file, info)
        if len(self.files) > 1 and self._number(0, TENSORS) != len(self._where):
            raise BrokenSplit(
                f"{path}: its shards hold {len(self._where)} tensors, but {TENSORS} says {self._number(0, TENSORS)}"
            )

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
        file, info = self._where[name]
        return file.data(info)

    def place(self, name: str) -> tuple[Path, int]:
        """The file that holds the tensor, and where its data begins there."""
        file, info = self._where[name]
        return file.path, file.data_offset + info.offset

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()
