"""What a quantization did, for the summary that a command prints and for comparison with a plan."""

from dataclasses import dataclass
from pathlib import Path

from quantmill.gguf.types import Type
from quantmill.quant.mix import Fallback
from quantmill.quant.unweighed import Unweighed


@dataclass(frozen=True)
class TensorReport:
    """One tensor: what it was and became. `importance` says whether an importance vector guided it."""

    name: str
    shape: tuple[int, ...]
    source: Type
    type: Type
    bytes: int
    importance: bool
    key: str | None = None
    """The key that the tensor is shared by, None where it is not (see sharing.py)."""
    sha256: str | None = None
    """sha256 of the tensor's bytes, where it has a key."""
    shared: bool = False
    """Whether the bytes were taken from someone who had them."""
    unweighed: Unweighed | None = None
    """What of the tensor had no importance, though its type needs one."""


@dataclass(frozen=True)
class QuantizeReport:
    """`paths` are the files written; `tensors` are in the order in which they were; sizes are those of whole files.
    `strangers` are entries of the imatrix that name no tensor. `unknown`: what is to be said of an architecture that
    llama.cpp of the tag does not know, empty for one that it does. `absent`: layers that were to be pruned, and that
    the base does not have."""

    paths: tuple[Path, ...]
    n_bytes: int
    tensors: tuple[TensorReport, ...]
    fallbacks: tuple[Fallback, ...]
    strangers: tuple[str, ...] = ()
    unknown: str = ""
    absent: tuple[int, ...] = ()
