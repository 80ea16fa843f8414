"""A release before any work: every file's exact bytes, what each task would do, and the disk and memory it takes.

Everything follows from the recipe, the lock's configuration and, where they are at hand, the tokenizer's files; no
weight is read. What plans and drivers share is `quant.planned.plan_file`, so that they cannot disagree.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantmill import gguf
from quantmill.architectures.checkpoint_tensors import assumed
from quantmill.build import graph
from quantmill.build.doit_tasks import workspace
from quantmill.build.release_tag import tag
from quantmill.build.workspace import Status
from quantmill.errors import UsageError
from quantmill.forecast.imatrix_cost import Measuring, measuring
from quantmill.forecast.quality_cost import Evaluating, benching, evaluating
from quantmill.forecast.quantize_rates import seconds, weigh
from quantmill.gguf import KV, ValueType, kv
from quantmill.gguf.layout import Described
from quantmill.quant.file_plan import ImatrixFacts, PlannedFile, plan_file
from quantmill.quant.findings import check_base, findings
from quantmill.quant.overrides import overrides_of
from quantmill.recipe import lock as locks
from quantmill.recipe.lock import Lock
from quantmill.recipe.recipe import Recipe

if TYPE_CHECKING:
    from quantmill.imatrix import Imatrix

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
    """What `quantmill plan` prints. `tag` is llama.cpp's, `release_tag` the release's (proof.tag), None while the lock
    is not resolved. `files` come largest first. `inexact` says why sizes may be off by a few MB, and is
    empty when they are exact.
    `computed_weights` are to be quantized when nothing is in the store yet,
    `shared_weights` are copied from a file of the same matrix that holds them already; `seconds` is the time for the
    first at the rates measured on this machine now, over its threads.
    `measuring` is the importance matrix's part, `evaluating` that of quality, in seconds of one of `threads` threads;
    `bench_seconds` go to the tests of speed, over all threads."""

    recipe: str
    tag: str
    release_tag: str | None
    inexact: str
    files: tuple[FileRow, ...]
    tasks: Mapping[str, Status]
    findings: tuple[str, ...]
    computed_weights: int
    shared_weights: int
    seconds: float
    disk_bytes: int
    memory_bytes: int
    measuring: Measuring | None
    threads: int
    evaluating: Evaluating | None
    bench_seconds: float | None

    @property
    def exact(self) -> bool:
        """Whether every size is exact to the byte."""
        return not self.inexact

    def data(self) -> dict[str, Any]:
        """The plan as plain JSON."""
        return {
            "recipe": self.recipe,
            "tag": self.tag,
            "release_tag": self.release_tag,
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
            "findings": list(self.findings),
            "computed_weights": self.computed_weights,
            "shared_weights": self.shared_weights,
            "seconds": round(self.seconds, 1),
            "disk_bytes": self.disk_bytes,
            "memory_bytes": self.memory_bytes,
            **({"imatrix": self.measuring.data()} if self.measuring else {}),
            **({"quality": self.evaluating.data(self.threads)} if self.evaluating else {}),
            **({"bench_seconds": round(self.bench_seconds, 1)} if self.bench_seconds is not None else {}),
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
    imatrix = _imatrix(recipe, space.store.digest_of)
    files = {label: planned(recipe, label, base, _facts(recipe, imatrix)) for label in recipe.ftypes}
    rows = [file_row(recipe, label, files.get(label), base) for label in graph.labels(recipe)]
    # The base as it comes and as it is converted, each quantized file, and shards beside the whole file that they are
    # cut from. The release's folder holds links.
    disk = sum(fact.size for fact in lock.files.values()) + sum(file.n_bytes for file in files.values())
    disk += (base.bytes if recipe.base.gguf is None else 0) + sum(row.bytes for row in rows if row.shards > 1)
    work = weigh(files.values())
    tensors = {label: file.tensors for label, file in files.items()}
    spent = benching(recipe, base.kvs, base.tensors, tensors)
    return Preview(
        recipe=recipe.name,
        tag=recipe.llama_cpp,
        release_tag=None if lock.unresolved else tag(recipe, lock),
        inexact=_inexact(recipe, base, imatrix),
        files=tuple(sorted(rows, key=lambda row: -row.bytes)),
        tasks=_statuses(recipe, lock, root),
        findings=tuple(
            finding.text
            for finding in findings(
                recipe.reference,
                base.tensors,
                files,
                imatrix,
                recipe.imatrix is not None,
                {label: graph.quant_params(recipe, label) for label in files},
            )
        ),
        computed_weights=sum(work.computed.values()),
        shared_weights=work.shared,
        seconds=seconds(work.computed, recipe.imatrix is not None) / space.threads,
        disk_bytes=disk,
        memory_bytes=MEMORY_BYTES,
        measuring=measuring(recipe, lock, base.kvs, base.tensors, space.threads),
        threads=space.threads,
        evaluating=evaluating(recipe, lock, base.kvs, base.tensors, tensors, _speed),
        bench_seconds=None if spent is None else spent / ((recipe.bench and recipe.bench.threads) or space.threads),
    )


def _speed(arithmetic: str) -> float:
    from quantmill.forecast.evaluation_rates import speed

    return speed(arithmetic)


def described_files(
    recipe: Recipe, lock: Lock, digest: Callable[[Path], str]
) -> dict[str, tuple[FileRow, PlannedFile | Description]]:
    """Each released file as it will be written, by label in the order of the matrix; no task is looked at."""
    base, imatrix = describe(recipe, lock), _imatrix(recipe, digest)
    found = {}
    for label in graph.labels(recipe):
        file = planned(recipe, label, base, _facts(recipe, imatrix)) if label != recipe.base.type else None
        found[label] = file_row(recipe, label, file, base), file or base
    return found


def file_row(recipe: Recipe, label: str, file: PlannedFile | None, base: Description) -> FileRow:
    """The row of one file; of the base's own when `file` is None."""
    kvs, tensors = (file.kvs, file.tensors) if file else (base.kvs, base.tensors)
    sizes = gguf.shard_sizes(kvs, tensors, recipe.max_size) if recipe.max_size else [gguf.file_size(kvs, tensors)]
    name = graph.file_name(recipe, label)
    return FileRow(
        name=f"{name}/" if len(sizes) > 1 else f"{name}.gguf",
        ftype=label,
        bytes=sum(sizes),
        bits_per_weight=_bits_per_weight(tensors),
        shards=len(sizes),
        fallbacks=tuple(fallback.tensor for fallback in file.fallbacks) if file else (),
    )


def statuses(recipe: Recipe, root: Path) -> dict[str, Status]:
    """What a build would do with each task, by name, in order."""
    return _statuses(recipe, locks.peek(recipe, workspace(root).store.digest_of), root)


def planned(recipe: Recipe, label: str, base: Description, imatrix: ImatrixFacts | None) -> PlannedFile:
    """One quantized file of the recipe as the quant step will write it."""
    params = graph.quant_params(recipe, label)
    overrides = overrides_of(params)
    return plan_file(recipe.reference, base.kvs, base.tensors, label, imatrix=imatrix, overrides=overrides)


def describe(recipe: Recipe, lock: Lock) -> Description:
    """The base file: read from a GGUF base's header, else derived from the model's configuration and small files."""
    local = locks.local_files(recipe)
    if recipe.base.gguf is not None:
        with gguf.read(recipe.base.gguf) as file:
            entries = list(file.metadata.values())
            tensors = [(i.name, i.shape, i.type) for i in file.tensors.values()]
        check_base(tensors, recipe.base.type)
        return Description(entries, tensors, True)
    from quantmill.architectures.description import describe as from_config

    entries, described = from_config(lock.config or {}, recipe.base.type)
    if local is not None:
        return Description(locks.base_metadata(recipe, local), described, True)
    return Description(_of_size(entries, lock), described, lock.metadata_bytes is not None)


def _of_size(entries: list[KV], lock: Lock) -> list[KV]:
    """What a quantizer reads of the metadata, with a stand-in for the rest so that the size is the lock's."""
    wanted = lock.metadata_bytes
    if wanted is None:
        wanted = BYTES_PER_TOKEN * int(assumed(lock.config or {}).get("vocab_size") or 0)
    name = "tokenizer"
    empty = len(kv(name, "").encode())
    rest = max(wanted - sum(len(entry.encode()) for entry in entries) - empty, 0)
    return [*entries, KV(name, ValueType.STRING, rest.to_bytes(8, "little") + b" " * rest)]


def _imatrix(recipe: Recipe, digest: Callable[[Path], str]) -> "Imatrix | None":
    if recipe.imatrix is None or recipe.imatrix.file is None or not recipe.imatrix.file.is_file():
        return None
    from quantmill.imatrix import read

    file, expected = recipe.imatrix.file, recipe.imatrix.sha256
    if (found := digest(file)) != expected:
        raise UsageError(
            f"{recipe.path}: imatrix.sha256: {file} has sha256 {found}, not {expected}; restore it or write its own"
        )
    return read(file)


def _inexact(recipe: Recipe, base: Description, imatrix: "Imatrix | None") -> str:
    reasons = [] if base.exact else ["the lock does not know the tokenizer yet"]
    if recipe.imatrix and recipe.imatrix.file and imatrix is None:
        reasons.append(f"there is no file {recipe.imatrix.file} yet")
    return " and ".join(reasons)


def _facts(recipe: Recipe, imatrix: "Imatrix | None") -> ImatrixFacts | None:
    if recipe.imatrix is None:
        return None
    if recipe.calibration is not None:  # the numbers are of one size whatever they are
        return ImatrixFacts(recipe.imatrix.name, recipe.calibration.dataset.encode(), 1, 1)
    if imatrix is None:
        return ImatrixFacts(recipe.imatrix.name, b"", 0, 0)
    return ImatrixFacts(recipe.imatrix.name, imatrix.dataset, len(imatrix.vectors), imatrix.chunks)


def _bits_per_weight(tensors: Sequence[Described]) -> float:
    weights = size = 0
    for _, shape, type_ in tensors:
        count = prod(shape)
        weights += count
        size += count // type_.block * type_.size
    return size * 8 / weights if weights else 0.0


def _statuses(recipe: Recipe, lock: Lock, root: Path) -> dict[str, Status]:
    space = workspace(root)
    nodes = graph.graph(recipe, lock)
    known: dict[str, Any] = {}
    return {name: space.status(node, nodes, known) for name, node in nodes.items()}
