"""Builds on paper: how long so many workers take for recipes, what they send and store. Nothing is built or asked for.

The tasks are those of the real graph, cut as a distributed build cuts it, with the planner's sizes and the rates that
this machine's kernels reach just now. They are given out as a distributed build gives them out (distributed/pool.py):
the longest that is ready first, to the idle worker that holds most of what it reads.
"""

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from math import prod
from pathlib import Path
from typing import Any

from quantmill.build import graph
from quantmill.build.graph import Node
from quantmill.build.opening import open_workspace
from quantmill.distributed.parts import PARTS_FROM, Cut, cut, uncut
from quantmill.forecast.base_file import describe
from quantmill.forecast.costs import TOKENS, Costs, Pair, Rates, quantize_costs, shareable
from quantmill.forecast.files import file_of, file_row
from quantmill.gguf.types import TYPES
from quantmill.quant.file_plan import FilePlan
from quantmill.recipe import lock as locks
from quantmill.recipe.lock import Lock
from quantmill.recipe.recipe import Recipe
from quantmill.steps.step import Cost
from quantmill.units import disk_text, duration_text


@dataclass(frozen=True)
class Team:
    """`workers` machines of `threads` threads each, with stores of their own, that a network of `bandwidth` bytes a
    second joins to a remote store and to the Hub, each way and for each worker."""

    workers: int
    threads: int
    bandwidth: float


@dataclass
class SimulatedTask:
    """A task and what it takes.

    `seconds`: of one thread
    `hub`: bytes from outside
    `reads`: earlier tasks whose outputs it reads, with their bytes
    `after`: earlier tasks that must have ended
    """

    name: str
    seconds: float
    writes: int = 0
    hub: int = 0
    reads: dict[int, int] = field(default_factory=dict)
    after: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Simulation:
    """What came of a simulation.

    `seconds`: on the clock
    `thread_seconds`: of work
    `least_seconds`: the longest chain of tasks that wait for each other, which no number of workers makes shorter
    `busy`: the share of the workers' time in which they had a task
    `hub_bytes`: from the Hub
    `sent_bytes`: to the remote store
    `fetched_bytes`: from the remote store
    `store_bytes`: in the remote store at the end
    `worker_bytes`: in the largest store of a worker
    `release_bytes`: of the releases
    """

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
    digest = open_workspace(root).store.hints.digest_of
    rates = Rates()
    tasks: list[SimulatedTask] = []
    count = release = 0
    for recipe in recipes:
        lock = locks.peek(recipe, digest)
        one, size = _recipe_tasks(recipe, lock, team, rates)
        for _ in range(times):
            first = len(tasks)
            tasks += [_moved(task, first) for task in one]
        count, release = count + times, release + size * times
    return _run(tasks, team, count, release)


def simulation_text(found: Simulation) -> list[str]:
    """The lines of what came of a simulation, for a person."""
    team = f"{found.workers} workers" if found.workers > 1 else "one worker"
    return [
        f"{found.recipes} recipes, {found.tasks} tasks, {team} of {found.threads} threads",
        f"time     {duration_text(found.seconds)}; {duration_text(found.least_seconds)} with any number of workers",
        f"work     {duration_text(found.thread_seconds)} of one thread; workers are busy {found.busy:.0%} of the time",
        f"network  {disk_text(found.hub_bytes)} from the Hub, {disk_text(found.sent_bytes)} to the remote store, "
        f"{disk_text(found.fetched_bytes)} from it, at {disk_text(int(found.bandwidth))}/s for each worker",
        f"store    {disk_text(found.store_bytes)} in all, up to {disk_text(found.worker_bytes)} on one worker; "
        f"releases {disk_text(found.release_bytes)}",
    ]


def _moved(task: SimulatedTask, first: int) -> SimulatedTask:
    reads = {index + first: size for index, size in task.reads.items()}
    return SimulatedTask(task.name, task.seconds, task.writes, task.hub, reads, [index + first for index in task.after])


def _recipe_tasks(recipe: Recipe, lock: Lock, team: Team, rates: Rates) -> tuple[list[SimulatedTask], int]:
    """One recipe's tasks, and the bytes of its release."""
    base = describe(recipe, lock)
    nodes = graph.graph(recipe, lock)
    every = {node.name: node for node in nodes.values() if node.step.divides == "tensors"}
    quants = {name: node for name, node in every.items() if node.is_cut}
    files = {name: file_of(node, base, recipe) for name, node in every.items()}
    by_label = {node.label: files[name] for name, node in every.items()}
    several = team.workers > 1 and base.bytes >= PARTS_FROM
    whole = cut(quants, base, team.workers) if quants and several else uncut(quants, base)
    rows = {label: file_row(recipe, label, by_label.get(label), base) for label in graph.labels(recipe)}
    weights = {name: prod(shape) for name, shape, _ in base.tensors}

    def size(pairs: Iterable[Pair]) -> int:
        return sum(weights[name] // TYPES[type_].block * TYPES[type_].size for name, type_ in pairs)

    parts = {part.node.name: (part.seconds, size(part.pairs)) for part in whole.parts}
    pairs, spent = quantize_costs({name: node for name, node in every.items() if name not in quants}, base, recipe)
    rest = {**whole.rest, **{name: sum(spent[pair] for pair in held) for name, held in pairs.items()}}
    quantized = parts | {name: (rest[name], file.n_bytes) for name, file in files.items()}
    costs = Costs(recipe, lock, base, by_label, rates, tokens=TOKENS, rows=rows, quantized=quantized)
    return list(_tasks(nodes, whole, files, costs)), sum(row.bytes for row in rows.values())


def _tasks(
    nodes: Mapping[str, Node], whole: Cut, files: Mapping[str, FilePlan], costs: Costs
) -> Iterator[SimulatedTask]:
    """The recipe's tasks with what they take; the parts of its files come before the first of these."""
    links = _Links({}, {}, {})
    parts: list[tuple[int, int, frozenset[Pair]]] = []
    for node in nodes.values():
        if node.step.divides == "tensors" and not parts:
            for part in whole.parts:
                cost = part.node.step.cost(part.node, costs)
                parts.append((len(links.index), cost.writes, part.pairs))
                yield links.task(part.node, cost)
                links.sizes.pop(part.node.name)  # read by those that hold its tensors alone
        task = links.task(node, node.step.cost(node, costs))
        if node.step.divides == "tensors":
            mine = shareable(files[node.name]).keys()
            task.reads |= {at: size for at, size, held in parts if held & mine}
        yield task


@dataclass(frozen=True)
class _Links:
    """`index` of a node's task; `sizes`, bytes that it gives to those that read it; `given`: a node whose output is
    another's, unchanged."""

    index: dict[str, int]
    sizes: dict[str, int]
    given: dict[str, str]

    def task(self, node: Node, cost: Cost) -> SimulatedTask:
        """The node's task, linked to those before it."""
        after = sorted({self.index[name] for name in (*node.after, *(edge.node for edge in node.edges))})
        reads = {}
        if node.step.reads_bytes:
            sources = [self.given.get(edge.node, edge.node) for edge in node.edges]
            reads = {self.index[source]: self.sizes[source] for source in sources if self.sizes[source]}
        if node.step.hands_on and not cost.writes:
            self.given[node.name] = self.given.get(node.edges[0].node, node.edges[0].node)
        self.index[node.name], self.sizes[node.name] = len(self.index), cost.writes
        return SimulatedTask(node.name, cost.seconds, cost.writes, cost.downloads, reads, after)


def _run(tasks: list[SimulatedTask], team: Team, recipes: int, release: int) -> Simulation:
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


def _choose(task: SimulatedTask, idle: set[int], holders: list[set[int]]) -> int:
    held: dict[int, int] = {}
    for source, size in task.reads.items():
        for worker in holders[source] & idle:
            held[worker] = held.get(worker, 0) + size
    return max(held, key=lambda worker: (held[worker], -worker)) if held else min(idle)
