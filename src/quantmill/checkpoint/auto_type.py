"""The type of a converted file whose type nobody names: what the reference's converter chooses of a checkpoint."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from quantmill.architectures.json_file import load_config
from quantmill.architectures.known import class_of
from quantmill.checkpoint.contents import headers
from quantmill.checkpoint.safetensors import Weight
from quantmill.errors import QuantmillError
from quantmill.reference.reference import Reference

_HALVES = ("BF16", "F16")
# config.json's names of dtypes; what else there is, the converter takes for no half.
_DTYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32", "float64": "F64"}


def of_weights(reference: Reference, config: Mapping[str, Any], weights: Mapping[str, Weight]) -> str:
    """Of the checkpoint's tensors, looked at in the converter's order."""
    others = class_of(config)[1].others
    kept = [weights[name] for name in in_order(weights) if not name.startswith(others)]
    return _chosen(reference, ((weight.dtype, len(weight.shape)) for weight in kept))


def of_files(reference: Reference, files: Mapping[str, Path]) -> str | None:
    """Of a model's files by name; None where they do not tell, which is said when they are read."""
    try:
        found = headers(files)
        return of_weights(reference, load_config(files), found) if found else None
    except QuantmillError:
        return None


def of_config(reference: Reference, config: Mapping[str, Any]) -> str | None:
    """Of what config.json says of the weights; None where it says nothing."""
    text = config.get("text_config")
    tables = (config, text if isinstance(text, Mapping) else {})
    stated = [table.get(key) for table in tables for key in ("dtype", "torch_dtype")]
    known = next((_DTYPES[name] for name in stated if isinstance(name, str) and name in _DTYPES), None)
    return _chosen(reference, [(known, 2)]) if known else None


def in_order(weights: Mapping[str, Weight]) -> list[str]:
    """The tensors' names as the converter comes to them: by file, in each by name."""
    return sorted(weights, key=lambda name: (weights[name].file, name))


def _chosen(reference: Reference, tensors: Iterable[tuple[str, int]]) -> str:
    """`tensors` are (dtype, dimensions)."""
    if reference.converter.auto == "first tensor":
        return "F16" if next(iter(tensors), ("", 0))[0] == "F16" else "BF16"
    return next((dtype for dtype, dimensions in tensors if dimensions > 1 and dtype in _HALVES), "F16")
