"""llama-quantize's --prune-layers: layers left out, and those above them renumbered.

Source: llama-quant.cpp's remap_layer (pull request 13037).
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from quantmill.errors import UsageError
from quantmill.gguf.layout import TensorEntry
from quantmill.reference.reference import Reference

_LAYER = re.compile(r"blk\.(\d+)\.", re.ASCII)  # anywhere in a name, unlike in the order of tensors


@dataclass(frozen=True)
class Pruned:
    """`names`: of the tensors that stay, in the reference's order, the base's name → the file's; `layers` are left;
    `values` of the attention's went; `absent` were to go and are not there, which llama-quantize passes over."""

    names: Mapping[str, str]
    layers: int
    values: int
    absent: tuple[int, ...] = ()

    def applied(self, tensors: Iterable[TensorEntry]) -> list[TensorEntry]:
        """Those of the tensors that stay, by their new names."""
        return [tensor._replace(name=self.names[tensor[0]]) for tensor in tensors if tensor[0] in self.names]


def prune(reference: Reference, names: Iterable[str], layers: Collection[int]) -> Pruned:
    """What is left of the tensors `names` without these layers. UsageError where these are all."""
    first, following, values = min(layers), 0, 0
    numbers: dict[int, int | None] = {}  # layer → what it becomes
    kept: dict[str, str] = {}
    for name in reference.order(names):
        found = _LAYER.search(name)
        if found is None:
            kept[name] = name
            continue
        layer = int(found[1])
        if layer not in numbers:
            number = None if layer in layers else layer if layer < first else following
            following = following if number is None else number + 1
            numbers[layer] = number
        number = numbers[layer]
        if number is None:
            values += any(part in name for part in reference.attention_values)
        else:
            kept[name] = f"{name[: found.start(1)]}{number}{name[found.end(1) :]}"
    if numbers and not following:
        raise UsageError(f"all {len(numbers)} layers of the base are to be pruned; leave one of them")
    return Pruned(kept, following, values, tuple(sorted(set(layers) - numbers.keys())))
