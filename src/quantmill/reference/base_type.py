"""What a GGUF file is, as a recipe names its base's type."""

from collections import Counter
from collections.abc import Sequence
from math import prod
from typing import Any

from quantmill.gguf.layout import TensorEntry
from quantmill.gguf.types import TYPES
from quantmill.reference.ftypes import BY_NUMBER


def base_type(tensors: Sequence[TensorEntry], number: Any) -> str:
    """The type of most weights of its matrices or, of a file that is quantized, the ftype of general.file_type's
    `number`; empty where it has no matrices."""
    weights: Counter[str] = Counter()
    for _, shape, found in tensors:
        if len(shape) > 1:
            weights[found.name] += prod(shape)
    if not weights:
        return ""
    name = weights.most_common(1)[0][0]
    return BY_NUMBER[number].name if TYPES[name].block > 1 and isinstance(number, int) and number in BY_NUMBER else name
