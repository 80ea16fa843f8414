"""What a recipe's tasks will take: the estimates that the steps' costs are made of, at the rates of this machine."""

import hashlib
from collections import deque
from collections.abc import Iterable, Mapping
from functools import cached_property
from math import prod

from quantmill.build import graph
from quantmill.build.graph import Node
from quantmill.build.measuring import STEP
from quantmill.forecast import quality_cost
from quantmill.forecast.base_file import Description, describe
from quantmill.forecast.evaluation_rates import BESIDE, speed
from quantmill.forecast.files import FileRow, file_of, file_row
from quantmill.forecast.imatrix_cost import ImatrixCost, amount, imatrix_cost
from quantmill.forecast.kept_rates import kept, timed
from quantmill.forecast.quality_cost import QualityCost
from quantmill.forecast.quantize_rates import QuantizeWork, quantize_work, rate, seconds
from quantmill.forecast.search_cost import SearchCost, search_cost
from quantmill.gguf.layout import TensorEntry
from quantmill.quant.file_plan import FilePlan
from quantmill.quant.sharing import CHEAP
from quantmill.recipe.lock import Lock
from quantmill.recipe.recipe import Recipe
from quantmill.steps.step import Task

LEAST_SECONDS = 0.004
TOKENS = 140_000  # of a text of which nothing is known yet

Pair = tuple[str, str]  # tensor, type


def quantize_memory(threads: int) -> int:
    """A quantize step's anonymous memory: interpreter and libraries, and chunks of rows in each thread
    (benchmarks/memory.py measures it)."""
    return 30_000_000 + 5_000_000 * threads


class Rates:
    """Bytes a second of sha256 and multiplications a second of a matrix product, one thread."""

    def __init__(self) -> None:
        data = bytes(8 << 20)
        self.hashed = kept("bytes hashed", lambda: len(data) / timed(lambda: hashlib.sha256(data), LEAST_SECONDS))
        self._products: dict[str, float] = {}

    def products(self, arithmetic: str) -> float:
        """Of one arithmetic."""
        if arithmetic not in self._products:
            self._products[arithmetic] = speed(arithmetic)
        return self._products[arithmetic]


class Costs:
    """Costs of one recipe, which answer as steps.Estimates.

    `base`: its base
    `files`: its quantized files by label
    `tokens`: what is assumed of a text of which nothing is known yet
    `rows`: the released files by label
    `quantized`: of each task that quantizes, the seconds of its own and the bytes that it writes
    """

    def __init__(
        self,
        recipe: Recipe,
        lock: Lock,
        base: Description,
        files: Mapping[str, FilePlan],
        rates: Rates,
        *,
        tokens: int = 0,
        rows: Mapping[str, FileRow] | None = None,
        quantized: Mapping[str, tuple[float, int]] | None = None,
    ) -> None:
        self.recipe, self.lock, self.base, self.files, self.rates = recipe, lock, base, files, rates
        self.tokens, self.rows, self.quantized = tokens, rows or {}, quantized or {}

    @cached_property
    def quality(self) -> QualityCost | None:
        """Of measuring quality; None for a recipe that does not, or lets llama.cpp."""
        if STEP in self.lock.tools:
            return None
        base, tensors = self.base, {label: file.tensors for label, file in self.files.items()}
        return quality_cost.quality_cost(
            self.recipe, self.lock, base.kvs, base.tensors, tensors, self.rates.products, otherwise=self.tokens
        )

    @cached_property
    def search(self) -> SearchCost | None:
        """Of searching for the types of targets; None for a recipe without."""
        guided = self.recipe.imatrix is not None
        return search_cost(
            self.recipe,
            self.lock,
            self.base.kvs,
            self.base.tensors,
            self.rates.products,
            lambda weights: seconds(weights, guided),
            quality_cost.logit_seconds,
            self.tokens,
        )

    @cached_property
    def bench(self) -> float | None:
        """Seconds of the tests of speed; None for a recipe without."""
        tensors = {label: file.tensors for label, file in self.files.items()}
        return quality_cost.bench_seconds(self.recipe, self.base.kvs, self.base.tensors, tensors)

    def imatrix(self, threads: int) -> ImatrixCost | None:
        """Of computing the imatrix on so many threads; None for a recipe that does not, or lets llama.cpp."""
        if "imatrix" in self.lock.tools:
            return None
        return imatrix_cost(self.recipe, self.lock, self.base.kvs, self.base.tensors, threads)

    @cached_property
    def quantizing(self) -> QuantizeWork:
        """The weights of all files, as one machine quantizes them."""
        return quantize_work(self.files.values(), self.recipe.keep_files if self.recipe.as_built else None)

    def quantize_seconds(self) -> float:
        """Of all files, on one thread."""
        return seconds(self.quantizing.computed, self.recipe.imatrix is not None)

    # What steps ask.

    @property
    def base_bytes(self) -> int:
        return self.base.bytes

    def base_download(self, task: Task) -> int:
        if task.name != graph.base_task(self.recipe):
            return 0
        return sum(fact.size for fact in self.lock.files.values()) or self.base.bytes

    def pass_seconds(self, passes: int, size: int) -> float:
        return passes * size / self.rates.hashed

    def imatrix_seconds(self) -> float:
        table, imatrix = self.recipe.calibration, self.recipe.imatrix
        if table is None or imatrix is None or "imatrix" in self.lock.tools:
            return 0.0
        chunks, _, work = amount(self.recipe, table, self.lock, self.base.kvs, self.base.tensors)
        tokens = (chunks or self.tokens // table.n_ctx) * table.n_ctx
        return BESIDE * work.products * tokens / self.rates.products(imatrix.arithmetic)

    def quantization(self, task: Task) -> tuple[float, int]:
        return self.quantized[task.name]

    def shard_bytes(self, label: str) -> int:
        return self.rows[label].bytes if self.rows[label].shards > 1 else 0

    def file_bytes(self, label: str) -> int:
        return self.rows[label].bytes

    def evaluation(self) -> tuple[float, int]:
        return (self.quality.base, self.quality.states) if self.quality else (0.0, 0)

    def quality_seconds(self, label: str) -> float:
        return self.quality.files[label] if self.quality else 0.0

    def search_seconds(self) -> float:
        return self.search.seconds if self.search else 0.0

    def bench_seconds(self) -> float:
        return self.bench or 0.0


def costs_of(recipe: Recipe, lock: Lock) -> Costs:
    """Costs of a recipe that one machine builds, where nothing of it is there yet but what the lock tells."""
    base, nodes = describe(recipe, lock), graph.graph(recipe, lock).values()
    quants = {node.name: node for node in nodes if node.step.divides == "tensors"}
    files = {node.label: file_of(node, base, recipe) for node in quants.values()}
    pairs, spent = quantize_costs(quants, base, recipe)
    quantized, taken = {}, deque[set[Pair]](maxlen=recipe.keep_files - 1 if recipe.as_built else None)
    for name, node in quants.items():  # what an earlier file holds, and is there yet, is copied
        own = pairs[name].difference(*taken)
        quantized[name] = sum(spent[pair] for pair in own), files[node.label].n_bytes
        taken.append(pairs[name])
    rows = {label: file_row(recipe, label, files.get(label), base) for label in graph.labels(recipe)}
    return Costs(recipe, lock, base, files, Rates(), tokens=TOKENS, rows=rows, quantized=quantized)


def needs(node: Node, reads: Mapping[str, int]) -> dict[str, float]:
    """What a step takes of a worker: memory and disk in bytes, threads. `reads`: bytes by digest."""
    memory = float(node.where.get("memory", node.step.memory))
    return {"memory": memory, "threads": 1, "disk": sum(reads.values()) if node.step.bulky else 0}


def shareable(file: FilePlan) -> dict[Pair, TensorEntry]:
    """The tensors of a file that are worth sharing."""
    return {
        (entry.name, entry.type.name): entry
        for entry in file.tensors
        if file.sources[entry.name] != entry.type and entry.type.name not in CHEAP
    }


def pair_seconds(files: Iterable[Mapping[Pair, TensorEntry]], guided: bool) -> dict[Pair, float]:
    """Seconds of one thread that each shareable tensor of the files takes here; `guided`: with an imatrix."""
    described = {pair: found for file in files for pair, found in file.items()}
    rates = {type_: rate(type_, guided) for type_ in {type_ for _, type_ in described}}
    return {pair: prod(shape) / rates[pair[1]] for pair, (_, shape, _) in described.items()}


def quantize_costs(
    quants: Mapping[str, Node], base: Description, recipe: Recipe | None = None
) -> tuple[dict[str, set[Pair]], dict[Pair, float]]:
    """What each node's file holds that is worth sharing, and the seconds of one thread that each such tensor takes;
    `recipe` where there are targets among them."""
    files = {name: shareable(file_of(node, base, recipe)) for name, node in quants.items()}
    guided = any(edge.name == "imatrix.dat" for node in quants.values() for edge in node.edges)
    return {name: set(file) for name, file in files.items()}, pair_seconds(files.values(), guided)
