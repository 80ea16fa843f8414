"""The base file before it exists: from its header, or from the model's configuration and small files alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from quantmill import gguf
from quantmill.architectures.checkpoint_tensors import assumed
from quantmill.architectures.checkpoint_tensors import tensors as checkpoint_tensors
from quantmill.architectures.configuration import notes
from quantmill.architectures.description import describe as describe_config
from quantmill.checkpoint.contents import source_order
from quantmill.engine.suitability import base_notes, check_computable
from quantmill.gguf import KV, ValueType, kv
from quantmill.gguf.layout import TensorEntry
from quantmill.quant.findings import check_base
from quantmill.recipe import base_files
from quantmill.recipe.bench_table import RUNTIMES
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


def describe(recipe: Recipe, lock: Lock) -> Description:
    """The base file: read from a GGUF base's header, else derived from the model's configuration and small files."""
    local = base_files.local_files(recipe)
    if recipe.base.gguf is not None:
        with gguf.read(recipe.base.gguf) as file:
            metadata = dict(file.metadata)
            tensors = file.tensor_entries()
        place = str(recipe.base.gguf)
        said = tuple(base_notes(place, recipe.llama_cpp, metadata, tensors))
        number = metadata["general.file_type"].value if "general.file_type" in metadata else None
        check_base(tensors, number, recipe.base.type, recipe.base.allow_requantize)
        check_computable(place, metadata, tensors, computed(recipe))
        return Description(list(metadata.values()), tensors, True, said)
    said = tuple(notes(lock.config or {}))
    if local is not None:
        sources = source_order(local)
        _, described = describe_config(lock.config or {}, recipe.base.type, sources, reference=recipe.reference)
        specs = checkpoint_tensors(lock.config or {}, sources)
        return Description(base_files.base_metadata(recipe, local, specs), described, True, said)
    entries, described = describe_config(
        lock.config or {}, recipe.base.type, output=lock.output, reference=recipe.reference
    )
    return Description(_of_size(entries, lock), described, lock.metadata_bytes is not None, said)


def computed(recipe: Recipe) -> list[str]:
    """The tables of a recipe that ask for what our own engine computes of the base or its files."""
    bench = recipe.bench is not None and recipe.bench.runtime == RUNTIMES[0]
    asked = {"calibration": recipe.calibration, "evaluation": recipe.evaluation, "bench": bench or None}
    return [name for name, table in asked.items() if table is not None]


def _of_size(entries: list[KV], lock: Lock) -> list[KV]:
    """What a quantizer reads of the metadata, with a stand-in for the rest so that the size is the lock's."""
    wanted = lock.metadata_bytes
    if wanted is None:
        wanted = BYTES_PER_TOKEN * int(assumed(lock.config or {}).get("vocab_size") or 0)
    name = "tokenizer"
    empty = len(kv(name, "").encode())
    rest = max(wanted - sum(len(entry.encode()) for entry in entries) - empty, 0)
    return [*entries, KV(name, ValueType.STRING, rest.to_bytes(8, "little") + b" " * rest)]
