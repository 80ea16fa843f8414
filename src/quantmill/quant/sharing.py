"""Tensors that several files hold in the same bytes: `Q4_K_M`, `Q4_K_S` and `Q4_K_L` share most of theirs.

A quantized tensor is decided by its source's bytes and type, the target type, its importance vectors and the
reference's arithmetic. That is its key; whoever has bytes of the key already lends them, and they are hashed again
before they are copied.
"""

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from quantmill.artifact import ByteRange, unknown
from quantmill.gguf.types import Type
from quantmill.reference.reference import Reference
from quantmill.store.key import canonical

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CHUNK = 4 << 20
# Types that are as quickly computed as their bytes are hashed.
CHEAP = frozenset({"F32", "F16", "BF16", "Q8_0"})


class Sink(Protocol):
    """What takes the bytes: a gguf.Writer."""

    def append_from(self, descriptor: int, offset: int, count: int) -> None: ...


@dataclass(frozen=True)
class Sharing:
    """`digests`: tensor of the base → sha256 of its bytes; `find`: key → where such bytes are, if anywhere."""

    digests: Mapping[str, str]
    find: Callable[[str], ByteRange | None] = unknown

    def key(
        self, reference: Reference, name: str, source: Type, type_: Type, importance: "NDArray[np.float32] | None"
    ) -> str | None:
        """The key of a tensor quantized so, None for one that is not worth sharing."""
        if type_.name in CHEAP or name not in self.digests:
            return None
        vector = None if importance is None else hashlib.sha256(importance.tobytes()).hexdigest()
        facts = [self.digests[name], source.name, type_.name, vector, reference.arithmetic]
        return hashlib.sha256(canonical(facts).encode()).hexdigest()

    def find_whole(self, key: str, size: int) -> ByteRange | None:
        """Where `size` bytes of the key are, hashed just now; None when nobody has them whole."""
        span = self.find(key)
        if span is None or span.size != size:
            return None
        try:
            descriptor = os.open(span.path, os.O_RDONLY)
            try:
                return span if _sha256(descriptor, span) == span.sha256 else None
            finally:
                os.close(descriptor)
        except OSError:  # gone, or no file: it is quantized again
            return None


def append_span(span: ByteRange, sink: Sink) -> None:
    """Append the span's bytes to `sink`, by the kernel's own copy where it can."""
    descriptor = os.open(span.path, os.O_RDONLY)
    try:
        sink.append_from(descriptor, span.offset, span.size)
    finally:
        os.close(descriptor)


def _sha256(descriptor: int, span: ByteRange) -> str:
    digest = hashlib.sha256()
    position, end = span.offset, span.offset + span.size
    while position < end and (chunk := os.pread(descriptor, min(CHUNK, end - position), position)):
        digest.update(chunk)
        position += len(chunk)
    return digest.hexdigest()
