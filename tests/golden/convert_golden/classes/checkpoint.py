"""A small checkpoint of one class: its config.json, its tensors as lines of text, and its tokenizer's files."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from convert_golden import models

Files = Mapping[str, Any]
_ORDER = ("F32", "BF16", "F16", "F8_E4M3", "U8")  # the order in which safetensors writes dtypes; names within one
_NUMBERS = re.compile(r"\[([\d,-]+)\]")


@dataclass(frozen=True)
class Checkpoint:
    """`tensors`: a line each, the name with its ranges of numbers, the shape, and the dtype where it is not BF16.

    `files`: the tokenizer's, by name.
    `pre`: the pre-tokenizer's name for the converter, whose table of hashes cannot know these vocabularies.
    `made_by`: what saves a model of these names and shapes; "hand" where nothing does.
    `variant`, `folder`: what the folder's name has behind the class's, or in its place.
    `released`: more lines, of tensors that releases hold and the class does not save.
    """

    config: Mapping[str, Any]
    tensors: str
    files: Callable[[], Files]
    pre: str = "-"
    made_by: str = "transformers 4.57.6"
    variant: str = ""
    folder: str = ""
    released: str = ""

    @property
    def class_(self) -> str:
        return str(self.config["architectures"][0])

    @property
    def name(self) -> str:
        return self.folder or (f"{self.class_}-{self.variant}" if self.variant else self.class_)

    def saved(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Name → shape and dtype, of the tensors that the class saves."""
        return _specs(self.tensors)

    def specs(self) -> dict[str, tuple[tuple[int, ...], str]]:
        return _specs(self.tensors) | _specs(self.released)

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        for name, data in {"config.json": self.config, **self.files()}.items():
            text = data if isinstance(data, str | bytes) else json.dumps(data, ensure_ascii=False, indent=2)
            (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        specs = self.specs()
        order = sorted(specs, key=lambda name: (_ORDER.index(specs[name][1]), name))
        models.save_safetensors(folder / "model.safetensors", {name: values_of(name, *specs[name]) for name in order})


def _specs(lines: str) -> dict[str, tuple[tuple[int, ...], str]]:
    found = {}
    for line in lines.strip().splitlines():
        name, shape, dtype = (*line.split(), "BF16")[:3]
        sizes = tuple(int(size) for size in shape.split("x")) if shape != "-" else ()
        found |= dict.fromkeys(_named(name), (sizes, dtype))
    return found


def _named(pattern: str) -> Iterator[str]:
    parts = _NUMBERS.split(pattern)
    axes = []
    for text in parts[1::2]:
        ends = [part.split("-") for part in text.split(",")]
        axes.append([number for end in ends for number in range(int(end[0]), int(end[-1]) + 1)])
    for numbers in product(*axes):
        texts = [*map(str, numbers), ""]
        yield "".join(part + number for part, number in zip(parts[::2], texts, strict=True))


def values_of(name: str, shape: tuple[int, ...], dtype: str) -> tuple[str, np.ndarray]:
    """As models.weight; of those that are computed with, what has an exact or a finite result."""
    random = np.random.Generator(np.random.PCG64(sum(name.encode()) * 7919 + len(name)))
    if dtype == "F8_E4M3":  # all but the two NaNs
        codes = random.integers(0, 254, shape).astype("u1")
        return dtype, codes + (codes > 126).astype("u1")
    if dtype == "U8":
        first, last = (110, 131) if name.endswith("_scales") else (0, 256)
        return dtype, random.integers(first, last, shape).astype("u1")
    if name.endswith(("A_log", "_scale_inv")):  # steps of 1/64, below 3
        values = (random.integers(1, 192, shape) / np.float32(64)).astype("<f4")
        return (dtype, values) if dtype == "F32" else (dtype, (values.view("<u4") >> 16).astype("<u2"))
    return models.weight(name, shape, dtype)
