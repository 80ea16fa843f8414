"""Orders of tensors by their names: a quantized file's, by the layer that they begin with, and the plain one."""

import re
from collections.abc import Iterable

_LAYER = re.compile(r"blk\.\s*([+-]?\d+)", re.ASCII)


def layer_of(name: str) -> int | None:
    """The layer that a tensor's name begins with, as llama.cpp reads it; None when it names none."""
    found = _LAYER.match(name)
    return int(found[1]) if found else None


def name_order(names: Iterable[str]) -> list[str]:
    """By the bytes of the name."""
    return sorted(names, key=str.encode)


def layer_order(names: Iterable[str]) -> list[str]:
    """Tensors outside the layers first, then by layer, then by the bytes of the name."""

    def key(name: str) -> tuple[int, bytes]:
        layer = layer_of(name)
        return (-1 if layer is None else layer, name.encode())

    return sorted(names, key=key)
