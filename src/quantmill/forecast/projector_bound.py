"""The most bytes that a projector for images or sound has, before llama.cpp's converter has made it.

It holds what of a checkpoint the text model does not. Matrices have the file's type; all else may stay F32.
"""

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from quantmill.architectures.checkpoint_tensors import tensors
from quantmill.architectures.errors import UnsuitableModel
from quantmill.build.graph import projector_name
from quantmill.checkpoint.safetensors import read_header
from quantmill.forecast.base_file import Description
from quantmill.gguf.types import TYPES
from quantmill.recipe.base_files import local_files
from quantmill.recipe.lock import Lock
from quantmill.recipe.recipe import Recipe

_SUFFIX = ".safetensors"
_HEADER = 256 << 10  # bytes of a projector's metadata and of its tensors' names, at most
_ITEM = {"bfloat16": 2, "float16": 2, "float32": 4}
_F32, _HALF = 4, 2


def projector_bounds(recipe: Recipe, lock: Lock, base: Description) -> dict[str, int]:
    """The bytes that each projector of the recipe has at most, by its name; none where nothing tells them."""
    if not recipe.projectors or recipe.base.gguf is not None:
        return {}
    config = lock.config or {}
    local = local_files(recipe)
    try:
        weights = _read(config, local) if local is not None else _left(config, lock, base)
    except UnsuitableModel:  # its class is known to llama.cpp's own converter alone
        return {}
    if weights is None:
        return {}
    found = {}
    for type_ in recipe.projectors:
        row = TYPES[type_]
        fits = {width: row.row_bytes(width) if width % row.block == 0 else _HALF * width for width, _ in weights[0]}
        bytes_ = sum(fits[width] * rows for width, rows in weights[0])
        found[projector_name(recipe, type_)] = bytes_ + _F32 * weights[1] + _HEADER
    return found


def _read(config: Mapping[str, Any], local: Mapping[str, Path]) -> tuple[list[tuple[int, int]], int] | None:
    """(columns and rows of each matrix, weights of all else) of what a folder holds beside the text model."""
    every: dict[str, tuple[int, ...]] = {}
    for name, path in local.items():
        if name.endswith(_SUFFIX):
            every |= {tensor: weight.shape for tensor, weight in read_header(path, name).items()}
    text = {source for spec in tensors(config, output=True) for source in spec.sources}
    others = [shape for name, shape in every.items() if name not in text]
    if not others or not text & every.keys():
        return None
    matrices = [(shape[1], shape[0]) for shape in others if len(shape) == 2]
    return matrices, sum(prod(shape) for shape in others if len(shape) != 2) + _embeddings(config)


def _left(config: Mapping[str, Any], lock: Lock, base: Description) -> tuple[list[tuple[int, int]], int] | None:
    """The same of a repository, whose files' sizes are known alone: all weights beyond the text model's as one row."""
    item = _ITEM.get(str(config.get("dtype") or config.get("torch_dtype")))
    if item is None or config.get("quantization_config") is not None:
        return None
    size = sum(fact.size for name, fact in lock.files.items() if name.endswith(_SUFFIX))
    left = size // item - sum(prod(entry.shape) for entry in base.tensors)
    if left <= 0:
        return None
    return [(left, 1)] if left % 32 else [(left + 1, 1)], _small(config)


def _tower(config: Mapping[str, Any]) -> Mapping[str, Any]:
    found = config.get("vision_config")
    return found if isinstance(found, Mapping) else {}


def _number(config: Mapping[str, Any], *names: str) -> int:
    found = next((config[name] for name in names if isinstance(config.get(name), int)), 0)
    return int(found)


def _embeddings(config: Mapping[str, Any]) -> int:
    """Weights of the places in an image, which are a matrix and stay F32."""
    tower = _tower(config)
    side = _number(tower, "image_size") // max(1, _number(tower, "patch_size"))
    places = max(_number(tower, "num_position_embeddings"), side * side + 1)
    return places * _number(tower, "hidden_size", "embed_dim")


def _small(config: Mapping[str, Any]) -> int:
    """Weights that stay F32 of a tower that config.json describes: norms, biases, patches and places."""
    tower = _tower(config)
    wide, inner = _number(tower, "hidden_size", "embed_dim"), _number(tower, "intermediate_size")
    layers, patch = _number(tower, "num_hidden_layers", "depth", "num_layers"), _number(tower, "patch_size")
    return layers * (12 * wide + 3 * max(inner, 4 * wide)) + 6 * patch * patch * wide + _embeddings(config)
