"""An action record as JSON that proves itself: {"key", "outputs", "task", "origin", "digest"}."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from quantmill.disk import below, is_digest, parse_json
from quantmill.store.key import canonical
from quantmill.store.proof import prove, proven

FACT = {"sha256", "size"}


def encode(name: str, key: Mapping[str, Any], outputs: Mapping[str, Mapping[str, Any]], **more: Any) -> bytes:
    """The text of the record of that name. `outputs`: {output: {sha256, size}}."""
    return prove(name, json.dumps({"key": key, "outputs": outputs, **more}, indent=1).encode())


def has_outputs(text: bytes, pointer: bytes) -> bool:
    """Whether a record's proven text, as it is written here, has the JSON `pointer` as its outputs and no origin.
    Within a JSON string there is no line end, and what is nested deeper stands further to the right."""
    outputs = b'\n "outputs": ' + pointer.strip().replace(b"\n", b"\n ")
    return b'\n "origin": ' not in text and (text.endswith(outputs) or outputs + b',\n "task": ' in text)


def decode(name: str, data: bytes) -> Mapping[str, Any] | None:
    """The record of that name, None where it does not prove itself or holds what no record does. One that was written
    before records had digests counts when its key's digest is its name."""
    found = parse_json(data)
    if not isinstance(found, dict) or (proven(name, data) is None and not _of_old(name, found)):
        return None
    outputs, task, origin = found.get("outputs"), found.get("task", ""), found.get("origin", {})
    key = found.get("key")
    whole = isinstance(key, dict) and isinstance(key.get("inputs"), dict) and isinstance(key.get("step"), str)
    whole = whole and isinstance(task, str) and isinstance(origin, dict)
    return found if whole and are_facts(outputs) else None


def are_facts(outputs: Any) -> bool:
    """Whether something is {output: {sha256, size}}, with names of files below a folder."""
    return isinstance(outputs, dict) and all(
        below(name)
        and isinstance(fact, dict)
        and fact.keys() == FACT
        and is_digest(fact["sha256"])
        and type(fact["size"]) is int
        and fact["size"] >= 0
        for name, fact in outputs.items()
    )


def _of_old(name: str, found: Mapping[str, Any]) -> bool:
    try:
        return "digest" not in found and hashlib.sha256(canonical(found["key"]).encode()).hexdigest() == name
    except (KeyError, TypeError, ValueError, RecursionError):
        return False
