"""Plain data as TOML: what a recipe says, without its comments and whatever way it was written."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


def text(data: Mapping[str, Any]) -> str:
    """The TOML text of tables of strings, numbers, booleans, lists of these, and lists of tables: the same for the same
    data. Reading it gives `data` again; the order of keys is kept."""
    return "\n".join(_table(data, ())).strip("\n") + "\n"


def _table(data: Mapping[str, Any], above: tuple[str, ...]) -> Iterator[str]:
    tables = {key: value for key, value in data.items() if isinstance(value, Mapping) or _tables(value)}
    for key, value in data.items():
        if key not in tables:
            yield f"{_key(key)} = {_value(value)}"
    for key, value in tables.items():
        name = (*above, key)
        for table in [value] if isinstance(value, Mapping) else value:
            dotted = ".".join(map(_key, name))
            yield ""
            yield f"[{dotted}]" if isinstance(value, Mapping) else f"[[{dotted}]]"
            yield from _table(table, name)


def _tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _string(key)


def _value(value: Any) -> str:
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return repr(value)


def _string(value: str) -> str:
    """JSON's escapes are TOML's, but that TOML wants DEL escaped too."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
