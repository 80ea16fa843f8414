"""The step key: everything that decides a step's bytes, and nothing else.

Equal keys promise equal outputs, on every machine. What is not a field here (paths, threads, times, the name of the
task) cannot reach the hash.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

SHOWN = 4  # changes that one line names
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def canonical(value: Any) -> str:
    """The one JSON text of `value`: sorted keys, no spaces, ASCII. Raises ValueError for NaN and infinities."""
    return _ENCODER.encode(value)


def finite(value: Any) -> Any:
    """`value` with texts for the numbers that JSON has not: a stranger's file may hold NaN, Infinity and -Infinity."""
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [finite(inner) for inner in value]
    return json.dumps(value) if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True)
class StepKey:
    """Identity of one run of a step.

    `step`: its name
    `version`: raised when the step's own code changes its outputs
    `generation`: the span of llama.cpp tags whose arithmetic the kernels follow, 0 for a step that runs no kernel
    `params`: plain JSON
    `inputs`: input name → sha256 of the input's bytes
    """

    step: str
    version: int
    generation: int
    params: Mapping[str, Any]
    inputs: Mapping[str, str]

    def fields(self) -> dict[str, Any]:
        """The key as plain JSON, as action records keep it."""
        return {
            "step": self.step,
            "version": self.version,
            "generation": self.generation,
            "params": dict(self.params),
            "inputs": dict(self.inputs),
        }

    def digest(self) -> str:
        """sha256 of the canonical JSON: 64 lower-case hex digits."""
        return hashlib.sha256(canonical(self.fields()).encode()).hexdigest()


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """What moved between two keys' `fields()`, in words: `imatrix.dat a41f09bc… → 9c0251d0…`, the first few; empty when
    nothing did."""
    changes = []
    for field in ("step", "version", "generation"):
        if old.get(field) != new.get(field):
            changes.append(f"{field} {old.get(field)} → {new.get(field)}")
    for field, show in (("inputs", _short), ("params", _text)):
        changes += [
            f"{name} {show(before)} → {show(after)}"
            for name, before, after in _differences(old.get(field, {}), new.get(field, {}))
        ]
    more = [f"and {len(changes) - SHOWN} more"] if len(changes) > SHOWN else []
    return ", ".join(changes[:SHOWN] + more)


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(name, old value, new value) of what differs; of tables, `table.name` and so on, down to what is none."""
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from _differences(before, after, f"{above}{name}.")
        elif before != after:
            yield f"{above}{name}", before, after


def _short(digest: str | None) -> str:
    return "none" if digest is None else f"{digest[:8]}…"


def _text(value: Any) -> str:
    text = "none" if value is None else canonical(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
