"""The `general.sampling.*` keys: what generation_config.json recommends for choosing tokens."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from quantmill.architectures.errors import DamagedModel, ModelError
from quantmill.architectures.json_file import load_json
from quantmill.gguf import KV, ValueType, kv
from quantmill.reference.reference import Reference

_FILE = "generation_config.json"
_LARGEST = (2 - 2**-23) * 2.0**127  # of float32


def sampling(reference: Reference, files: Mapping[str, Path]) -> Iterator[KV]:
    """The entries of the reference's converter, in its order; a file that is no JSON object says nothing, as there.
    Raises a ModelError for a value that its key cannot hold."""
    known = reference.converter.sampling
    try:
        stated = (load_json(files, _FILE, DamagedModel) if known else None) or {}
    except ModelError:
        return
    for key, (type_, names) in known.items():
        name = next((name for name in names if name in stated), None)
        if name is not None and stated[name] not in (None, ""):
            yield kv(f"general.sampling.{key}", _value(name, stated[name], type_), type_)


def _value(name: str, value: Any, type_: ValueType) -> Any:
    whole = isinstance(value, int) and not isinstance(value, bool)
    fits, right = {
        ValueType.INT32: (whole and -(2**31) <= value < 2**31, "a whole number"),
        ValueType.FLOAT32: ((whole or isinstance(value, float)) and abs(value) <= _LARGEST, "a number"),
        ValueType.STRING: (isinstance(value, str), "a text"),
    }[type_]
    if not fits:
        raise ModelError(f"{_FILE}'s `{name}` is {value!r}; {right} would be right")
    return value
