"""What an audit reads weights from: a file here, one elsewhere, a checkpoint, or any of them in another type."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

from quantmill.gguf.layout import TensorEntry, TensorInfo
from quantmill.gguf.values import KV

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Tensors(Protocol):
    """Tensors by name, with the metadata of their model."""

    @property
    def metadata(self) -> Mapping[str, KV]: ...

    def tensors(self) -> list[TensorEntry]:
        """All of them."""

    def info(self, name: str) -> TensorInfo:
        """One's description; its offset says nothing."""

    def read_runs(self, name: str, runs: "Iterable[tuple[int, NDArray[np.uint8]]]") -> None:
        """Fill each array with the tensor's bytes from a byte on; runs are whole rows."""
