"""A release before any work: every file's exact bytes, what each task would do, and the disk and memory it takes.

Everything follows from the recipe, the lock's configuration and, where they are at hand, the tokenizer's files; no
weight is read. What plans and drivers share is `quant.planned.plan_file`, so that they cannot disagree.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from quantmill import gguf, plan
from quantmill import lock as locks
from quantmill.build import Status
from quantmill.gguf import KV, ValueType, kv
from quantmill.gguf.layout import Described
from quantmill.lock import Lock
from quantmill.quant.mix import Fallback
from quantmill.quant.params import overrides_of
from quantmill.quant.planned import ImatrixFacts, PlannedFile, plan_file
from quantmill.recipe import Recipe
from quantmill.tasks import workspace

# Where only config.json is known: bytes of metadata for a token of a byte-level BPE vocabulary with its merge
# (Qwen2.5's 151,936 tokens take 5.9 MB).
BYTES_PER_TOKEN = 39


# A quantize step's anonymous memory: interpreter and libraries, and chunks of rows in each thread
# (benchmarks/memory.py measures it).
MEMORY_BYTES = 150_000_000


@dataclass(frozen=True)
class FileRow:
    """One released file. `bytes` are those of the whole file or of all its shards, headers included;
    `bits_per_weight` counts the tensors' data alone; `fallbacks` are the tensors whose rows do not fit the wanted
    type."""

    name: str
    ftype: str
    bytes: int
    bits_per_weight: float
    shards: int
    fallbacks: tuple[str, ...]


@dataclass(frozen=True)
class Preview:
    """What `quantmill plan` prints."""

    recipe: str
    tag: str
    exact: bool
    files: tuple[FileRow, ...]
    tasks: Mapping[str, Status]
    disk_bytes: int
    memory_bytes: int

    def data(self) -> dict[str, Any]:
        """The plan as plain JSON."""
        return {
            "recipe": self.recipe,
            "tag": self.tag,
            "exact": self.exact,
            "files": [
                {
                    "name": row.name,
                    "ftype": row.ftype,
                    "bytes": row.bytes,
                    "bits_per_weight": round(row.bits_per_weight, 4),
                    "shards": row.shards,
                    "fallbacks": list(row.fallbacks),
                }
                for row in self.files
            ],
            "tasks": [
                {"name": name, "status": status.state, "reason": status.reason} for name, status in self.tasks.items()
            ],
            "disk_bytes": self.disk_bytes,
            "memory_bytes": self.memory_bytes,
        }


@dataclass(frozen=True)
class Description:
    """The base file before it exists: metadata, tensors, and whether the metadata is exact to the byte."""

    kvs: Sequence[KV]
    tensors: Sequence[Described]
    exact: bool

    @cached_property
    def bytes(self) -> int:
        """The whole file's size."""
        return gguf.file_size(self.kvs, self.tensors)


def preview(recipe: Recipe, root: Path) -> Preview:
    """The plan of a recipe. Nothing is written, and the network is asked only when there is no lock."""
    space = workspace(root)
    lock = locks.peek(recipe, space.store.digest_of)
    base = describe(recipe, lock)
    imatrix = _imatrix_facts(recipe)
    rows, disk = [], base.bytes + sum(fact.size for fact in lock.files.values())
    for label in plan.labels(recipe):
        kvs, tensors = base.kvs, base.tensors
        fallbacks: tuple[Fallback, ...] = ()
        if label != recipe.base.type:
            file = planned(recipe, label, base, imatrix)
            kvs, tensors, fallbacks = file.kvs, file.tensors, file.fallbacks
            disk += file.n_bytes
        sizes = gguf.shard_sizes(kvs, tensors, recipe.max_size) if recipe.max_size else [gguf.file_size(kvs, tensors)]
        if len(sizes) > 1:  # the shards are stored beside the whole file that they were cut from
            disk += sum(sizes)
        name = plan.file_name(recipe, label)
        rows.append(
            FileRow(
                name=f"{name}/" if len(sizes) > 1 else f"{name}.gguf",
                ftype=label,
                bytes=sum(sizes),
                bits_per_weight=_bits_per_weight(tensors),
                shards=len(sizes),
                fallbacks=tuple(fallback.tensor for fallback in fallbacks),
            )
        )
    exact = base.exact and (imatrix is None or bool(imatrix.entries))
    tasks = _statuses(recipe, lock, root)
    return Preview(recipe.name, recipe.llama_cpp, exact, tuple(rows), tasks, disk, MEMORY_BYTES)


def statuses(recipe: Recipe, root: Path) -> dict[str, Status]:
    """What a build would do with each task, by name, in order."""
    return _statuses(recipe, locks.peek(recipe, workspace(root).store.digest_of), root)


def planned(recipe: Recipe, label: str, base: Description, imatrix: ImatrixFacts | None) -> PlannedFile:
    """One quantized file of the recipe as the quant step will write it."""
    params = plan.quant_params(recipe, label)
    return plan_file(base.kvs, base.tensors, label, imatrix=imatrix, overrides=overrides_of(params))


def describe(recipe: Recipe, lock: Lock) -> Description:
    """The base file: read from a GGUF base's header, else derived from the model's configuration and small files."""
    local = locks.local_files(recipe)
    if recipe.base.gguf is not None:
        with gguf.read(recipe.base.gguf) as file:
            entries = list(file.metadata.values())
            return Description(entries, [(i.name, i.shape, i.type) for i in file.tensors.values()], True)
    from quantmill.model.arch import tensors

    config = lock.config or {}
    described = [(spec.name, spec.shape, spec.type(recipe.base.type)) for spec in tensors(config)]
    if local is not None:
        return Description(locks.base_metadata(recipe, local), described, True)
    return Description(_metadata_of_size(recipe, lock), described, lock.metadata_bytes is not None)


def _metadata_of_size(recipe: Recipe, lock: Lock) -> list[KV]:
    """What a quantizer reads of the metadata, with a stand-in for the rest so that the size is the lock's."""
    from quantmill.model.arch import architecture
    from quantmill.model.facts import facts

    config = lock.config or {}
    entries = [kv("general.architecture", architecture(config).gguf), *facts(config, recipe.base.type)]
    wanted = lock.metadata_bytes
    if wanted is None:
        wanted = BYTES_PER_TOKEN * int(config.get("vocab_size") or 0)
    name = "tokenizer"
    empty = len(kv(name, "").encode())
    rest = max(wanted - sum(len(entry.encode()) for entry in entries) - empty, 0)
    return [*entries, KV(name, ValueType.STRING, rest.to_bytes(8, "little") + b" " * rest)]


def _imatrix_facts(recipe: Recipe) -> ImatrixFacts | None:
    if recipe.imatrix is None:
        return None
    if not recipe.imatrix.file.is_file():
        return ImatrixFacts(recipe.imatrix.name, b"", 0, 0)
    from quantmill.imatrix import read

    found = read(recipe.imatrix.file)
    return ImatrixFacts(recipe.imatrix.name, found.dataset, len(found.vectors), found.chunks)


def _bits_per_weight(tensors: Sequence[Described]) -> float:
    weights = size = 0
    for _, shape, type_ in tensors:
        count = 1
        for length in shape:
            count *= length
        weights += count
        size += count // type_.block * type_.size
    return size * 8 / weights if weights else 0.0


def _statuses(recipe: Recipe, lock: Lock, root: Path) -> dict[str, Status]:
    space = workspace(root)
    nodes = plan.graph(recipe, lock)
    known: dict[str, Any] = {}
    return {name: space.status(node, nodes, known) for name, node in nodes.items()}
