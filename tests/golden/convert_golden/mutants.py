"""Checkpoints of the registry, each with one thing wrong: in config.json, in a tensor or in the tokenizer's files.

What is wrong is drawn from all that can be, by a generator whose seed is the checkpoint's name.
"""

import copy
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from convert_golden import models
from convert_golden.classes.checkpoint import Checkpoint, values_of
from quantmill.architectures.json_file import model_files
from quantmill.artifact import Context
from quantmill.checkpoint.conversion import convert

# {checkpoint: {mutant: the first 16 digits of its file's sha256}}; mutants that are not in it are refused. Written by
# benchmarks/loads.py --record, which has each of them loaded.
RECORD = Path(__file__).parent / "mutants.json"
EACH = {"config": 24, "tensor": 14, "tokenizer": 16}
FACTS, WEIGHTS = "config.json", "model.safetensors"
# What is no number, and what is infinite, by dtype as arrays hold it; where there is no infinity, the largest.
ODD = {"BF16": (0x7FC0, 0x7F80), "F16": (0x7E00, 0x7C00), "F8_E4M3": (0x7F, 0x7E), "U8": (0xFF, 0xFE)}
ODD["F32"] = ODD["F64"] = (float("nan"), float("inf"))


class Folder(NamedTuple):
    """What a checkpoint is made of; a change is one of these."""

    facts: dict[str, Any]
    tensors: dict[str, tuple[str, np.ndarray]]
    files: dict[str, Any]


class Mutant(NamedTuple):
    """A change by its name."""

    name: str
    change: Callable[[Folder], Any]


def folder_of(checkpoint: Checkpoint) -> Folder:
    tensors = {name: values_of(name, *spec) for name, spec in checkpoint.specs().items()}
    return Folder(copy.deepcopy(dict(checkpoint.config)), tensors, copy.deepcopy(checkpoint.files()))


def write(found: Folder, place: Path) -> None:
    place.mkdir(parents=True)
    for name, data in {FACTS: found.facts, **found.files}.items():
        text = data if isinstance(data, str | bytes) else json.dumps(data, ensure_ascii=False)
        (place / name).write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    models.save_safetensors(place / WEIGHTS, found.tensors)


def mutants(checkpoint: Checkpoint, each: dict[str, int] = EACH, seed: str = "") -> Iterator[Mutant]:
    """As many of each kind, all different; the first is the checkpoint as it is."""
    drawn = random.Random(seed + checkpoint.name)
    yield Mutant("as it is", lambda found: None)
    sound = folder_of(checkpoint)
    kinds = {
        "config": _of_json("config", sound.facts, lambda found: found.facts),
        "tensor": _of_tensors(sound),
        "tokenizer": _of_files(sound),
    }
    for kind, count in each.items():
        every = list({mutant.name: mutant for mutant in kinds[kind]}.values())
        yield from drawn.sample(every, min(count, len(every)))


def built(checkpoint: Checkpoint, mutant: Mutant, place: Path) -> Path:
    """The file that becomes of a mutant below `place`; raises a QuantmillError where it is refused."""
    found, path = folder_of(checkpoint), place / "model.gguf"
    mutant.change(found)
    write(found, place / "base")
    convert(model_files(place / "base"), path, "BF16", "M", checkpoint.pre.strip("-") or None, Context())
    return path


def _others(value: Any) -> Iterator[Any]:
    """Values of the kind that a mistake leaves."""
    yield None
    if isinstance(value, bool):
        yield from (not value, str(value).lower(), 1)
    elif isinstance(value, int | float):
        yield from (0, -1, value * 2, value + 1, value * 0.5, str(value), float("nan"), 1 << 40, [value], True)
    elif isinstance(value, str):
        yield from ("", value + "x", value.upper(), 5, [value], {}, value[: len(value) // 2], "\ud800")
    elif isinstance(value, list):
        yield from ([], value[:-1], [*value, *value[-1:]], value[::-1], "x", 3, {"a": 1}, [None] * len(value))
    elif isinstance(value, dict):
        yield from ({}, [], "x", list(value))


def _paths(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where values lie, at most the first and the last few of long lists and tables."""
    keys = list(data) if isinstance(data, dict) else list(range(len(data))) if isinstance(data, list) else []
    for key in keys if len(keys) < 80 else [*keys[:2], *keys[-2:]]:
        yield (*path, key)
        yield from _paths(data[key], (*path, key))


def _at(data: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        data = data[key]
    return data


def _of_json(kind: str, sound: Any, of: Callable[[Folder], Any]) -> Iterator[Mutant]:
    for path in _paths(sound):
        name = f"{kind}: {'.'.join(map(str, path))}"
        parent, key = path[:-1], path[-1]
        for value in _others(_at(sound, path)):
            yield Mutant(f"{name} is {value!r}", _set(of, parent, key, value))
        yield Mutant(f"{name} is gone", lambda found, parent=parent, key=key: _at(of(found), parent).pop(key))
        if isinstance(key, str):
            yield Mutant(f"{name} in capitals", _rename(of, parent, key))


def _set(of: Callable[[Folder], Any], parent: tuple[Any, ...], key: Any, value: Any) -> Callable[[Folder], Any]:
    return lambda found: _at(of(found), parent).__setitem__(key, value)


def _rename(of: Callable[[Folder], Any], parent: tuple[Any, ...], key: str) -> Callable[[Folder], Any]:
    def change(found: Folder) -> None:
        table = _at(of(found), parent)
        table[key.upper()] = table.pop(key)

    return change


def _filled(array: np.ndarray, value: float) -> np.ndarray:
    array = array.copy()
    array.reshape(-1)[array.size // 2] = value
    return array


def _of_tensors(sound: Folder) -> Iterator[Mutant]:
    """Of each tensor of the first layer, of the last, and of those outside."""
    layers = sound.facts.get("text_config", sound.facts)["num_hidden_layers"]
    for name, (dtype, array) in sound.tensors.items():
        if ".layers." in name and f".layers.{layers - 1}." not in name and ".layers.0." not in name:
            continue
        changed: dict[str, dict[str, tuple[str, np.ndarray]]] = {
            "is gone": {},
            "lies": {name: (dtype, array.T.copy() if array.ndim > 1 else array.reshape(1, -1))},
            "has a row more": {name: (dtype, np.concatenate([array, array[:1]]))},
            "has a row less": {name: (dtype, array[:-1])},
            "has half its columns": {name: (dtype, array[..., : array.shape[-1] // 2].copy())},
            "is empty": {name: (dtype, array[:0])},
            "is one number": {name: (dtype, array.reshape(-1)[:1].reshape(()))},
            "has another name": {name.replace("weight", "wieght").replace("bias", "bais"): (dtype, array)},
            "is there twice": {name: (dtype, array), name.removeprefix("model."): (dtype, array)},
            "is under another's name": {name: (dtype, array), f"base_model.{name}": (dtype, array)},
            "is of I8": {name: ("I8", np.zeros(array.shape, "i1"))},
            "is of F64": {name: ("F64", np.zeros(array.shape, "<f8"))},
            "is of F8": {name: ("F8_E4M3", np.zeros(array.shape, "u1"))},
            "is of F32": {name: ("F32", np.ones(array.shape, "<f4"))},
            "is zero": {name: (dtype, np.zeros_like(array))},
            "has a NaN": {name: (dtype, _filled(array, ODD[dtype][0]))},
            "has an infinity": {name: (dtype, _filled(array, ODD[dtype][1]))},
            "has a bias": {name: (dtype, array), name.replace("weight", "bias"): (dtype, array.reshape(-1)[:64])},
            "has a scale": {name: (dtype, array), f"{name}_scale_inv": ("F32", np.ones((1, 1), "<f4"))},
        }
        for said, tensors in changed.items():
            yield Mutant(f"tensor: {name} {said}", _replaced(name, tensors))


def _replaced(name: str, tensors: dict[str, tuple[str, np.ndarray]]) -> Callable[[Folder], Any]:
    def change(found: Folder) -> None:
        found.tensors.pop(name)
        found.tensors.update(tensors)

    return change


def _of_files(sound: Folder) -> Iterator[Mutant]:
    for name, data in sound.files.items():
        whole = data if isinstance(data, bytes) else json.dumps(data, ensure_ascii=False).encode()
        damaged = {
            "is empty": b"",
            "is cut": whole[: len(whole) * 2 // 3],
            "is cut at its end": whole[:-1],
            "is a list": b"[]",
            "is null": b"null",
            "is an empty table": b"{}",
            "has a byte that is none": whole[: len(whole) // 2] + b"\xff" + whole[len(whole) // 2 + 1 :],
            "has one byte changed": whole[: len(whole) // 3] + b"7" + whole[len(whole) // 3 + 1 :],
        }
        yield Mutant(f"tokenizer: {name} is gone", lambda found, name=name: found.files.pop(name))
        for said, content in damaged.items():
            yield Mutant(
                f"tokenizer: {name} {said}",
                lambda found, name=name, content=content: found.files.update({name: content}),
            )
        if not isinstance(data, bytes | str):
            yield from _of_json(f"tokenizer: {name}", data, lambda found, name=name: found.files[name])
