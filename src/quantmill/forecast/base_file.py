"""The base file before it exists: from its header, or from the model's configuration and small files alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from quantmill import gguf
from quantmill.architectures.checkpoint_tensors import tensors as checkpoint_tensors
from quantmill.architectures.configuration import assumed, notes
from quantmill.architectures.description import describe as describe_config
from quantmill.architectures.errors import ModelError
from quantmill.build.graph import Node, task
from quantmill.build.measuring import STEP, own_bench
from quantmill.build.workspace import Workspace
from quantmill.checkpoint.contents import source_order
from quantmill.engine.suitability import base_notes, check_computable, check_config_computable
from quantmill.errors import UsageError
from quantmill.gguf import KV, ValueType, kv
from quantmill.gguf.layout import TensorEntry
from quantmill.quant.findings import check_base
from quantmill.recipe import base_files
from quantmill.recipe.lock import Lock
from quantmill.recipe.recipe import Recipe

# Where only config.json is known: bytes of metadata for a token of a byte-level BPE vocabulary with its merge
# (Qwen2.5's 151,936 tokens take 5.9 MB).
BYTES_PER_TOKEN = 39


@dataclass(frozen=True)
class Description:
    """The base file before it exists: metadata, tensors, whether the metadata is exact to the byte, and what is worth
    knowing of it."""

    kvs: Sequence[KV]
    tensors: Sequence[TensorEntry]
    exact: bool
    notes: tuple[str, ...] = ()

    @cached_property
    def bytes(self) -> int:
        """The whole file's size."""
        return gguf.file_size(self.kvs, self.tensors)


class Undescribed(UsageError):
    """A base whose tensors only llama.cpp's converter knows, and which it has not converted yet."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(
            f"{recipe.path}: only llama.cpp's converter knows the base's tensors; sizes are known once it has run "
            f"(quantmill build {recipe.name})"
        )


def converted(recipe: Recipe, lock: Lock, nodes: Mapping[str, Node], space: Workspace) -> Path | None:
    """The base file that llama.cpp's converter made, where it is here."""
    node = nodes.get(task("convert", recipe))
    if "convert" not in lock.tools or node is None or not space.up_to_date(node, nodes):
        return None
    path = (space.outputs(node) or {})["model.gguf"].path
    return path if path.is_file() else None


def describe(recipe: Recipe, lock: Lock, made: Path | None = None) -> Description:
    """The base file: read from a GGUF base's header or that of the `made` one, else derived from the model's
    configuration and small files. Undescribed for one of which neither tells."""
    if "convert" in lock.tools:
        return _by_llama_cpp(recipe, lock, made)
    local = base_files.local_files(recipe)
    if recipe.base.gguf is not None:
        return _read(recipe, lock, recipe.base.gguf, str(recipe.base.gguf))
    said = tuple(notes(lock.config or {}))
    check_config_computable(lock.config or {}, computed(recipe, lock))
    if local is not None:
        sources = source_order(local)
        _, described = describe_config(lock.config or {}, recipe.base.type, sources, reference=recipe.reference)
        specs = checkpoint_tensors(lock.config or {}, sources)
        return Description(base_files.base_metadata(recipe, local, specs), described, True, said)
    entries, described = describe_config(
        lock.config or {}, recipe.base.type, output=lock.output, reference=recipe.reference
    )
    return Description(_of_size(entries, lock), described, lock.metadata_bytes is not None, said)


def _read(recipe: Recipe, lock: Lock, path: Path, place: str) -> Description:
    with gguf.read(path, place) as file:
        metadata = dict(file.metadata)
        tensors = file.tensor_entries()
    said = tuple(base_notes(place, recipe.llama_cpp, metadata, tensors))
    number = metadata["general.file_type"].value if "general.file_type" in metadata else None
    check_base(tensors, number, recipe.base.type, recipe.base.allow_requantize)
    check_computable(place, metadata, tensors, computed(recipe, lock))
    return Description(list(metadata.values()), tensors, True, said)


def _by_llama_cpp(recipe: Recipe, lock: Lock, made: Path | None) -> Description:
    if made is not None:
        return _read(recipe, lock, made, "the converted base")
    try:  # of an architecture that our own code knows too, whatever that converter writes beside it
        entries, described = describe_config(lock.config or {}, recipe.base.type)
    except ModelError:
        raise Undescribed(recipe) from None
    return Description(_of_size(entries, lock), described, False)


def computed(recipe: Recipe, lock: Lock) -> list[str]:
    """The tables of a recipe that ask for what our own engine computes of the base or its files."""
    measured = None if "imatrix" in lock.tools else recipe.calibration
    evaluated = None if STEP in lock.tools else recipe.evaluation
    asked = {"calibration": bool(measured), "evaluation": bool(evaluated), "search": bool(recipe.search)}
    asked |= {"bench": own_bench(recipe, lock)}
    return [name for name, is_asked in asked.items() if is_asked]


def _of_size(entries: list[KV], lock: Lock) -> list[KV]:
    """What a quantizer reads of the metadata, with a stand-in for the rest so that the size is the lock's."""
    wanted = lock.metadata_bytes
    if wanted is None:
        wanted = BYTES_PER_TOKEN * int(assumed(lock.config or {}).get("vocab_size") or 0)
    name = "tokenizer"
    empty = len(kv(name, "").encode())
    rest = max(wanted - sum(len(entry.encode()) for entry in entries) - empty, 0)
    return [*entries, KV(name, ValueType.STRING, rest.to_bytes(8, "little") + b" " * rest)]
