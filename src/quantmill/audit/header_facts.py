"""What a GGUF file is, from its header alone: metadata, tensors, types, the mix recognized, what made it."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from quantmill.audit.mixes import KnownMix, recognize
from quantmill.gguf import model_facts
from quantmill.gguf.layout import TensorEntry, ggml_shape
from quantmill.gguf.reader import GGUFFile
from quantmill.gguf.shards import COUNT, NO, TENSORS
from quantmill.gguf.types import ValueType
from quantmill.gguf.values import KV
from quantmill.reference.ftypes import BY_NUMBER

FIRST = 3  # elements of an array that are shown


@dataclass(frozen=True)
class HeaderFacts:
    """A file, or all shards of one.

    `files`: their names and sizes; `shards`: how many of the tensors each of them holds. `mix` is None where no known
    mix explains most tensors.
    """

    files: tuple[tuple[str, int], ...]
    version: int
    alignment: int
    metadata: tuple[KV, ...]
    tensors: tuple[TensorEntry, ...]
    data_bytes: int
    mix: KnownMix | None
    shards: tuple[int, ...] = ()

    @property
    def weights(self) -> int:
        return sum(_count(entry) for entry in self.tensors)

    @property
    def shares(self) -> list[tuple[str, int, int, int]]:
        """Of each type: its name, tensors, weights and bytes; the one with the most weights first."""
        tensors: Counter[str] = Counter(entry.type.name for entry in self.tensors)
        weights: Counter[str] = Counter()
        size: Counter[str] = Counter()
        for entry in self.tensors:
            weights[entry.type.name] += _count(entry)
            size[entry.type.name] += _count(entry) // entry.type.block * entry.type.size
        return [(name, tensors[name], count, size[name]) for name, count in weights.most_common()]

    @property
    def stated(self) -> str | None:
        """The ftype that general.file_type names."""
        number = next((entry.value for entry in self.metadata if entry.key == "general.file_type"), None)
        found = BY_NUMBER.get(number) if isinstance(number, int) else None
        return found.name if found else None

    @property
    def made_by(self) -> dict[str, Any]:
        """What the file says of its making: imatrix, quantizer, converter, sources."""
        keys = ("quantize.", "general.quantized_by", "general.source", "general.base_model", "general.quantization")
        return {entry.key: plain(entry) for entry in self.metadata if entry.key.startswith(keys)}

    def to_json(self) -> dict[str, Any]:
        """Plain data. Of an array its type, its length and its first elements."""
        mix = self.mix
        weights = self.weights
        return {
            "files": [{"name": name, "size": size} for name, size in self.files],
            "version": self.version,
            "alignment": self.alignment,
            "weights": weights,
            "bits_per_weight": self.data_bytes * 8 / max(weights, 1),
            "ftype": self.stated,
            "mix": mix
            and {
                "ftype": mix.ftype,
                "tags": mix.tags,
                "imatrix": mix.imatrix,
                "pure": mix.pure,
                "others": {name: type_.name for name, type_ in mix.others.items()},
            },
            "made_by": self.made_by,
            "types": [
                {"type": name, "tensors": tensors, "weights": count, "bytes": size, "share": count / max(weights, 1)}
                for name, tensors, count, size in self.shares
            ],
            "metadata": {entry.key: plain(entry) for entry in self.metadata},
            "tensors": [
                {"name": entry.name, "shape": list(entry.shape), "type": entry.type.name} for entry in self.tensors
            ],
        }


def describe_files(files: Sequence[GGUFFile], sizes: Sequence[int] | None = None) -> HeaderFacts:
    """The file, or the shards in order. `sizes`: of files of which the header alone is at hand."""
    first = files[0]
    entries = [entry for file in files for entry in file.tensor_entries()]
    tensors = tuple(entry._replace(shape=ggml_shape(entry.shape)) for entry in entries)
    return HeaderFacts(
        tuple((file.place, size) for file, size in zip(files, sizes or [file.size for file in files], strict=True)),
        first.version,
        first.alignment,
        tuple(entry for entry in first.metadata.values() if len(files) < 2 or entry.key not in (NO, COUNT, TENSORS)),
        tensors,
        sum(info.nbytes for file in files for info in file.tensors.values()),
        recognize(model_facts(first.metadata.values()), tensors),
        tuple(len(file.tensors) for file in files),
    )


def plain(entry: KV) -> Any:
    """An entry's value, and of an array what there is of it. JSON has no infinity and no NaN: they are texts."""
    if entry.subtype is None:
        return _finite(entry.value)
    first = [_finite(value) for value in first_of(entry)]
    return {"array": ValueType(entry.subtype).name, "count": len(entry), "first": first}


def first_of(entry: KV) -> list[Any]:
    """The first elements of an array, of which the rest is not decoded."""
    count = min(FIRST, len(entry))
    raw, at = entry.raw, 8
    if entry.subtype == ValueType.STRING:
        for _ in range(count):
            at += 8 + int.from_bytes(raw[at : at + 8], "little")
    else:
        at = 8 + (len(raw) - 8) // max(len(entry), 1) * count
    found: list[Any] = KV(entry.key, entry.type, count.to_bytes(8, "little") + raw[8:at], entry.subtype).value
    return found


def _finite(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _count(entry: TensorEntry) -> int:
    return math.prod(entry.shape)
