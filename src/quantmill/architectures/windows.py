"""Windows of attention as config.json tells of them, of which a GGUF file holds what its architecture fixes."""

from collections.abc import Mapping
from typing import Any

from quantmill.architectures.architecture import Architecture, ModelClass
from quantmill.architectures.errors import ModelError

_SLIDING, _FULL = "sliding_attention", "full_attention"


def window(found: Mapping[str, Any]) -> int:
    """The window that is shorter than the context; 0 where none is."""
    width = found.get("sliding_window", 4096)
    return width if isinstance(width, int) and 0 < width < found["max_position_embeddings"] else 0


def check_windows(row: Architecture, class_: ModelClass, found: Mapping[str, Any], stated: Mapping[str, Any]) -> None:
    """Raises a ModelError where config.json asks for windows that no GGUF file of the architecture has."""
    if class_.windows not in ("asked", "pattern"):
        return
    kinds = stated.get("layer_types")
    if kinds is not None and (not isinstance(kinds, list) or not {_SLIDING, _FULL}.issuperset(map(str, kinds))):
        raise ModelError(
            f"config.json's `layer_types` is no list of {_FULL!r} and {_SLIDING!r}, which can be converted"
        )
    if class_.windows == "pattern":
        _check_pattern(row, found["num_hidden_layers"], kinds, stated)
    else:
        _check_asked(row, found, kinds, stated)


def _check_pattern(row: Architecture, layers: int, kinds: list[str] | None, stated: Mapping[str, Any]) -> None:
    name = next((key for key in ("sliding_window_pattern", "_sliding_window_pattern") if key in stated), "")
    pattern = row.window_pattern
    step = stated.get(name, pattern)
    wanted = [_FULL if (layer + 1) % pattern == 0 else _SLIDING for layer in range(layers)]
    if (kinds is None and step not in (pattern, None)) or (kinds is not None and kinds != wanted):
        key = name if kinds is None else "layer_types"
        raise ModelError(
            f"config.json's `{key}` lets other layers see the whole text than every {pattern}th; "
            f"{row.name} in a GGUF file has that pattern and no other"
        )


def _check_asked(
    row: Architecture, found: Mapping[str, Any], kinds: list[str] | None, stated: Mapping[str, Any]
) -> None:
    if not window(found) or not stated.get("use_sliding_window"):
        return
    first = stated.get("max_window_layers", 28 if row.experts == "never" else 0)
    asked = _SLIDING in kinds if kinds is not None else not isinstance(first, int) or first < found["num_hidden_layers"]
    if asked:
        raise ModelError(
            f"config.json asks for a window of {window(found)} tokens (`use_sliding_window`); llama.cpp's "
            f"{row.name} has none. A `max_position_embeddings` within the window would be right"
        )
