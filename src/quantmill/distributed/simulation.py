"""Builds on paper: how long so many workers take for recipes, what they send and store. Nothing is built or asked for.

The tasks are those of the real graph, cut as a distributed build cuts it, with the planner's sizes and the rates that
this machine's kernels reach just now. They are given out as a distributed build gives them out (distributed/pool.py):
the longest that is ready first, to the idle worker that holds most of what it reads.
"""

import hashlib
import heapq
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

from quantmill.build import graph as plan
from quantmill.build.doit_tasks import workspace
from quantmill.build.graph import Node, graph
from quantmill.distributed.parts import PARTS_FROM, Cut, cut, pairs, planned, uncut
from quantmill.forecast.imatrix_cost import amount
from quantmill.forecast.plan import Description, FileRow, describe, file_row
from quantmill.forecast.quality_cost import Evaluating, benching, evaluating
from quantmill.gguf.layout import TensorEntry
from quantmill.gguf.types import TYPES
from quantmill.quant.file_plan import PlannedFile
from quantmill.recipe import lock as locks
from quantmill.recipe.lock import Lock
from quantmill.recipe.recipe import Recipe
from quantmill.units import disk_text, duration_text

# How often a step's bytes pass through a processor, by the time that sha256 of them takes: what it reads is hashed or
# checked, what it writes is hashed when it enters the store.
PASSES = {"download": 2, "convert": 3, "index": 1, "quant": 3, "part": 2, "split": 2, "verify": 1}
TOKENS = 140_000  # of a text of which nothing is known yet


@dataclass(frozen=True)
class Team:
    """`workers` machines of `threads` threads each, with stores of their own, that a network of `bandwidth` bytes a
    second joins to a remote store and to the Hub, each way and for each worker."""

    workers: int
    threads: int
    bandwidth: float


@dataclass
class Task:
    """`seconds` of one thread; `reads` are earlier tasks whose outputs it reads, with their bytes; `after`, those that
    must have ended; `hub`, bytes from outside."""

    name: str
    seconds: float
    writes: int = 0
    hub: int = 0
    reads: dict[int, int] = field(default_factory=dict)
    after: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Simulation:
    """What came of it. `seconds` on the clock; `thread_seconds` of work; `least_seconds`, the longest chain of tasks
    that wait for each other, which no number of workers makes shorter; `busy`, the share of the workers' time in which
    they had a task. Bytes: from the Hub, sent to and fetched from the remote store, in that store at the end, in the
    largest store of a worker, and of the releases."""

    recipes: int
    tasks: int
    workers: int
    threads: int
    bandwidth: float
    seconds: float
    thread_seconds: float
    least_seconds: float
    busy: float
    hub_bytes: int
    sent_bytes: int
    fetched_bytes: int
    store_bytes: int
    worker_bytes: int
    release_bytes: int

    def data(self) -> dict[str, Any]:
        """As plain JSON."""
        return {key: round(value, 3) if isinstance(value, float) else value for key, value in asdict(self).items()}


def simulate(recipes: Iterable[Recipe], root: Path, team: Team, times: int = 1) -> Simulation:
    """Build every recipe `times` over, each time as if it were another model of the same shape."""
    digest = workspace(root).store.digest_of
    rates = Rates()
    tasks: list[Task] = []
    count = release = 0
    for recipe in recipes:
        lock = locks.peek(recipe, digest)
        one, size = _recipe_tasks(recipe, lock, team, rates)
        for _ in range(times):
            first = len(tasks)
            tasks += [_moved(task, first) for task in one]
        count, release = count + times, release + size * times
    return _run(tasks, team, count, release)


def simulation_text(found: Simulation) -> str:
    """What came of a simulation, for a person."""
    team = f"{found.workers} workers" if found.workers > 1 else "one worker"
    return "\n".join(
        [
            f"{found.recipes} recipes, {found.tasks} tasks, {team} of {found.threads} threads",
            f"time     {duration_text(found.seconds)}; {duration_text(found.least_seconds)} with any number of workers",
            f"work     {duration_text(found.thread_seconds)} of one thread; "
            f"workers are busy {found.busy:.0%} of the time",
            f"network  {disk_text(found.hub_bytes)} from the Hub, {disk_text(found.sent_bytes)} to the remote store, "
            f"{disk_text(found.fetched_bytes)} from it, at {disk_text(int(found.bandwidth))}/s for each worker",
            f"store    {disk_text(found.store_bytes)} in all, up to {disk_text(found.worker_bytes)} on one worker; "
            f"releases {disk_text(found.release_bytes)}",
        ]
    )


class Rates:
    """Bytes a second of sha256 and multiplications a second of a matrix product, one thread, measured once."""

    def __init__(self) -> None:
        data, spent = bytes(8 << 20), []
        for _ in range(5):
            began = time.perf_counter()
            hashlib.sha256(data)
            spent.append(time.perf_counter() - began)
        self.hashed = len(data) / min(spent)
        self._products: dict[str, float] = {}

    def products(self, arithmetic: str) -> float:
        if arithmetic not in self._products:
            from quantmill.forecast.evaluation_rates import speed

            self._products[arithmetic] = speed(arithmetic)
        return self._products[arithmetic]


def _moved(task: Task, first: int) -> Task:
    reads = {index + first: size for index, size in task.reads.items()}
    return Task(task.name, task.seconds, task.writes, task.hub, reads, [index + first for index in task.after])


def _recipe_tasks(recipe: Recipe, lock: Lock, team: Team, rates: Rates) -> tuple[list[Task], int]:
    """One recipe's tasks, and the bytes of its release."""
    base = describe(recipe, lock)
    nodes = graph(recipe, lock)
    quants = {node.name: node for node in nodes.values() if node.step == "quant"}
    files = {name: planned(node, base) for name, node in quants.items()}
    several = team.workers > 1 and base.bytes >= PARTS_FROM
    whole = cut(quants, base, team.workers) if quants and several else uncut(quants, base)
    rows = {label: _row(recipe, label, files, base) for label in plan.labels(recipe)}
    builder = _Builder(recipe, lock, base, files, rows, rates)
    return list(builder.tasks(nodes, whole)), sum(row.bytes for row in rows.values())


def _row(recipe: Recipe, label: str, files: Mapping[str, PlannedFile], base: Description) -> FileRow:
    return file_row(recipe, label, files.get(plan.task("quant", recipe, label)), base)


@dataclass
class _Builder:
    recipe: Recipe
    lock: Lock
    base: Description
    files: Mapping[str, PlannedFile]
    rows: Mapping[str, FileRow]
    rates: Rates

    @cached_property
    def _evaluating(self) -> Evaluating | None:
        base = self.base
        return evaluating(
            self.recipe, self.lock, base.kvs, base.tensors, self._tensors(), self.rates.products, otherwise=TOKENS
        )

    def _tensors(self) -> dict[str, Sequence[TensorEntry]]:
        """Of each quantized file, by label."""
        return {name.partition("/")[2]: file.tensors for name, file in self.files.items()}

    def tasks(self, nodes: Mapping[str, Node], whole: Cut) -> Iterator[Task]:
        index: dict[str, int] = {}
        sizes: dict[str, int] = {}  # bytes that a node gives to those that read it
        given: dict[str, str] = {}  # a node whose output is another's, unchanged
        parts: list[tuple[int, int, frozenset[tuple[str, str]]]] = []
        weights = {name: (prod(shape), type_) for name, shape, type_ in self.base.tensors}
        for node in nodes.values():
            if node.step == "quant" and not parts:
                for part in whole.parts:
                    size = sum(weights[t][0] // TYPES[y].block * TYPES[y].size for t, y in part.pairs)
                    parts.append((len(index), size, part.pairs))
                    task = Task(part.node.name, part.seconds + self._pass("part", size), size)
                    self._link(task, part.node, index, sizes, given)
                    index[part.node.name] = len(index)
                    yield task
            task = self._task(node, whole)
            self._link(task, node, index, sizes, given)
            if node.step == "quant":
                mine = pairs(self.files[node.name]).keys()
                task.reads |= {at: size for at, size, held in parts if held & mine}
            if node.step == "split" and not task.writes:
                given[node.name] = given.get(node.edges[0].node, node.edges[0].node)
            index[node.name], sizes[node.name] = len(index), task.writes
            yield task

    def _link(
        self, task: Task, node: Node, index: Mapping[str, int], sizes: Mapping[str, int], given: Mapping[str, str]
    ) -> None:
        task.after = sorted({index[name] for name in (*node.after, *(edge.node for edge in node.edges))})
        if node.step not in ("card", "release"):  # they read names and digests
            sources = [given.get(edge.node, edge.node) for edge in node.edges]
            task.reads = {index[source]: sizes[source] for source in sources if sizes[source]}

    def _pass(self, step: str, size: int) -> float:
        return PASSES.get(step, 0) * size / self.rates.hashed

    def _task(self, node: Node, whole: Cut) -> Task:
        label = node.name.partition("/")[2]
        match node.step:
            case "download" if node.name == plan.task("download", self.recipe):
                size = sum(fact.size for fact in self.lock.files.values()) or self.base.bytes
                return Task(node.name, self._pass("download", size), size, 0 if node.files else size)
            case "convert":
                return Task(node.name, self._pass("convert", self.base.bytes), self.base.bytes)
            case "index":
                return Task(node.name, self._pass("index", self.base.bytes))
            case "imatrix":
                return Task(node.name, self._imatrix_seconds())
            case "quant":
                size = self.files[node.name].n_bytes
                return Task(node.name, whole.rest[node.name] + self._pass("quant", size), size)
            case "split":
                size = self.rows[label].bytes if self.rows[label].shards > 1 else 0
                return Task(node.name, self._pass("split", size), size)
            case "verify":
                return Task(node.name, self._pass("verify", self.rows[label].bytes))
            case "evaluate" if self._evaluating:
                return Task(node.name, self._evaluating.base, self._evaluating.states)
            case "quality" if self._evaluating:
                return Task(node.name, self._evaluating.files[label])
            case "bench":
                return Task(node.name, benching(self.recipe, self.base.kvs, self.base.tensors, self._tensors()) or 0.0)
            case _:
                return Task(node.name, 0.0)

    def _imatrix_seconds(self) -> float:
        said, how = self.recipe.calibration, self.recipe.imatrix
        assert said is not None
        assert how is not None
        from quantmill.forecast.evaluation_rates import BESIDE

        chunks, _, work = amount(self.recipe, said, self.lock, self.base.kvs, self.base.tensors)
        tokens = (chunks or TOKENS // said.n_ctx) * said.n_ctx
        return BESIDE * work.products * tokens / self.rates.products(how.arithmetic)


def _run(tasks: list[Task], team: Team, recipes: int, release: int) -> Simulation:
    """Give the tasks out, event by event."""
    waits = [len({*task.after, *task.reads}) for task in tasks]
    followers: list[list[int]] = [[] for _ in tasks]
    for at, task in enumerate(tasks):
        for before in {*task.after, *task.reads}:
            followers[before].append(at)
    ready = [(-task.seconds, at) for at, task in enumerate(tasks) if not waits[at]]
    heapq.heapify(ready)
    idle = set(range(team.workers))
    holders: list[set[int]] = [set() for _ in tasks]
    stores = [0] * team.workers  # bytes; nothing is removed while the builds last
    running: list[tuple[float, int, int]] = []  # end, task, worker
    chain = [0.0] * len(tasks)
    now = busy = 0.0
    fetched = sent = 0
    while ready or running:
        while ready and idle:
            _, at = heapq.heappop(ready)
            task, worker = tasks[at], _choose(tasks[at], idle, holders)
            idle.discard(worker)
            missing = {source: size for source, size in task.reads.items() if worker not in holders[source]}
            for source, size in missing.items():
                holders[source].add(worker)
                stores[worker] += size
            fetched += sum(missing.values())
            stores[worker] += task.writes
            holders[at].add(worker)
            sends = task.writes if team.workers > 1 else 0
            sent += sends
            spent = task.seconds / team.threads + (sum(missing.values()) + sends + task.hub) / team.bandwidth
            busy += spent
            since = max((chain[i] for i in {*task.after, *task.reads}), default=0.0)
            chain[at] = since + task.seconds / team.threads + task.hub / team.bandwidth
            heapq.heappush(running, (now + spent, at, worker))
        now, at, worker = heapq.heappop(running)
        idle.add(worker)
        for follower in followers[at]:
            waits[follower] -= 1
            if not waits[follower]:
                heapq.heappush(ready, (-tasks[follower].seconds, follower))
    written = sum(task.writes for task in tasks)
    return Simulation(
        recipes=recipes,
        tasks=len(tasks),
        workers=team.workers,
        threads=team.threads,
        bandwidth=float(team.bandwidth),
        seconds=now,
        thread_seconds=sum(task.seconds for task in tasks),
        least_seconds=max(chain, default=0.0),
        busy=busy / (now * team.workers) if now else 0.0,
        hub_bytes=sum(task.hub for task in tasks),
        sent_bytes=sent,
        fetched_bytes=fetched,
        store_bytes=written,
        worker_bytes=max(stores),
        release_bytes=release,
    )


def _choose(task: Task, idle: set[int], holders: list[set[int]]) -> int:
    held: dict[int, int] = {}
    for source, size in task.reads.items():
        for worker in holders[source] & idle:
            held[worker] = held.get(worker, 0) + size
    return max(held, key=lambda worker: (held[worker], -worker)) if held else min(idle)
