"""What the values of a lock are, that come from whoever wrote it."""

from typing import Any


def is_text_or_list(value: Any) -> bool:
    """Whether this is a text, or a list of texts."""
    return all(isinstance(item, str) for item in (value if isinstance(value, list) else [value]))


def is_shape(value: Any) -> bool:
    """Whether this is what `shape` of a lock is."""
    from quantmill.choose.shape import Shape

    names = {*Shape.__dataclass_fields__, "tied"}
    return isinstance(value, dict) and value.keys() == names and all(map(is_count, value.values()))


def is_count(value: Any) -> bool:
    """Whether this is a number of things."""
    return type(value) is int and value >= 0
