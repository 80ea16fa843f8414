"""Every architecture of llama.cpp's suite test-llama-archs, in small: `architectures.json`, a model a line.

Of a model of the suite it has the names of the matrices, in two rows, with widths that blocks of 256 divide, and the
metadata without which llama.cpp loads none. `common` has what most of them say.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from quantmill.admission.shapes import F32, Model
from quantmill.gguf import TensorEntry, ValueType, kv

FILE = Path(__file__).with_suffix(".json")
WIDE = ("ple.layer_multipliers", "ple.head_offsets", "ple.head_vocab_sizes")  # whose numbers have 64 bits


def models() -> dict[str, Model]:
    """The models by name: an architecture's, `-dense` or `-moe`."""
    found = json.loads(FILE.read_bytes())
    return {name: _model(name, found["common"] | row["keys"], row["tensors"]) for name, row in found["models"].items()}


def _model(name: str, keys: dict[str, Any], tensors: dict[str, dict[str, str]]) -> Model:
    arch = name.rpartition("-")[0]
    facts: dict[str, Any] = {"general.architecture": arch, "general.file_type": 0}
    for key, value in keys.items():
        wide = key in WIDE
        facts[f"{arch}.{key}"] = kv(f"{arch}.{key}", value, ValueType.ARRAY, ValueType.UINT64) if wide else value
    entries = [
        TensorEntry(full, tuple(map(int, shape.split("x"))), F32)
        for shape, names in tensors.items()
        for layers, texts in names.items()
        for full in _names(layers, texts.split())
    ]
    return facts, entries


def _names(layers: str, names: list[str]) -> Iterator[str]:
    """`0-2` or `0,2` are layers, nothing is outside; a name is a weight's, or whole where it ends with `!`."""
    for name in names:
        whole = name.removesuffix("!") if name.endswith("!") else f"{name}.weight"
        if not layers:
            yield whole
        for part in filter(None, layers.split(",")):
            first, _, last = part.partition("-")
            yield from (f"blk.{layer}.{whole}" for layer in range(int(first), int(last or first) + 1))
