"""The kinds of values that a recipe's keys have, by name."""

import re
from collections.abc import Callable, Mapping
from typing import Any

_CONTROLS = r"[\x00-\x1f\x7f-\x9f\u2028\u2029]"
_FOLDERS = r"(?:.*/)?\.{0,2}"  # a path that can only be a folder's; no Path would keep how it ends


def _string(value: Any) -> bool:
    return isinstance(value, str) and value.strip() != "" and not re.search(_CONTROLS, value)


def _list(value: Any) -> bool:
    return isinstance(value, list) and value != [] and all(map(_string, value))


# Whether a value is of a kind, and what is.
KINDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "string": (_string, "a string that is not empty"),
    "address": (lambda value: isinstance(value, str) and value != "", "an address"),
    "file": (
        lambda value: _string(value) and not re.fullmatch(_FOLDERS, value),
        "the path of a file, which does not end like a folder's",
    ),
    "list": (_list, "a list of strings"),
    "string or list": (lambda value: _string(value) or _list(value), "a string or a list of strings"),
    "table": (
        lambda value: isinstance(value, Mapping) and all(map(_string, [*value, *value.values()])),
        "a table of strings",
    ),
    "size": (lambda value: isinstance(value, str | int) and not isinstance(value, bool), 'a size like "50GB"'),
    "boolean": (lambda value: isinstance(value, bool), "true or false"),
    "count": (lambda value: type(value) is int and 0 <= value < 2**31, "a whole number that is not negative"),
    "number": (lambda value: type(value) in (int, float), "a number"),
}


def problem(value: Any, kind: str) -> str | None:
    """What is wrong with a value that is to be of that kind, and what would be right."""
    for text in value if isinstance(value, list) else [value]:
        if isinstance(text, str) and kind not in ("address", "size") and text and not _string(text):
            return f"{text!r} is empty or has characters that no page can show; write it in one line"
    fits, right = KINDS[kind]
    return None if fits(value) else f"{value!r} is not right here; give {right}"
