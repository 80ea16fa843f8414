"""A release before any work: every file's exact bytes, what each task would do, and the disk and memory it takes.

Everything follows from the recipe, the lock's configuration and, where they are at hand, the tokenizer's files; no
weight is read. What plans and drivers share is `quant.planned.plan_file`, so that they cannot disagree.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Any

from quantmill.build import graph
from quantmill.build.graph import Node
from quantmill.build.measuring import own_bench
from quantmill.build.opening import open_workspace
from quantmill.build.release_tag import tag
from quantmill.build.step_params import quant_params
from quantmill.build.workspace import Status, Workspace
from quantmill.errors import listed
from quantmill.forecast.base_file import Description, Undescribed, computed, converted, describe
from quantmill.forecast.costs import Costs, Rates, quantize_memory
from quantmill.forecast.disk_need import disk_bytes, disk_need
from quantmill.forecast.files import FileRow, file_row, imatrix_facts, quantized_file, read_imatrix
from quantmill.forecast.imatrix_cost import ImatrixCost
from quantmill.forecast.projector_bound import projector_bounds
from quantmill.forecast.quality_cost import QualityCost
from quantmill.forecast.search_cost import SearchCost
from quantmill.forecast.target_files import known_mixes
from quantmill.forecast.tool_choice import tool_choice
from quantmill.gguf.shards import counted_bytes
from quantmill.host import usable_memory
from quantmill.quant.file_plan import FilePlan
from quantmill.quant.findings import findings
from quantmill.recipe import lock as locks
from quantmill.recipe import locked_tools
from quantmill.recipe.lock import Lock
from quantmill.recipe.recipe import Recipe
from quantmill.units import disk_text

if TYPE_CHECKING:
    from quantmill.imatrix import Imatrix


@dataclass(frozen=True)
class Plan:
    """What `quantmill plan` prints.

    `tag`: llama.cpp's
    `release_tag`: the release's (proof.tag), None while the lock is not resolved
    `inexact`: why sizes may be off by a few MB, empty when they are exact
    `files`: largest first
    `computed_weights`: to be quantized when nothing is in the store yet
    `shared_weights`: copied from a file of the same matrix that holds them already
    `seconds`: for the computed weights, at the rates of this machine, over its threads
    `memory`: the most that a task of each step takes, in bytes
    `imatrix`: the importance matrix's part, in seconds of one of `threads` threads
    `quality`: quality's part, in seconds of one of `threads` threads
    `bench_seconds`: of the tests of speed, over all threads
    `tools`: which program each step uses that llama.cpp may run, a sentence each
    `search`: the part of the search for types, in seconds of one of `threads` threads
    `projectors`: their types and bytes by name, 0 where they are not made yet; `bounds`: at most so many then
    `disk_peak`: the most disk at a time where files go as they are published; None where their sizes are not known
    `as_built`: whether that is what the recipe asks for
    `at_least`: the steps of `memory` that a program of llama.cpp's runs, which takes that and what it does not tell
    """

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
    memory: Mapping[str, int]
    imatrix: ImatrixCost | None
    threads: int
    quality: QualityCost | None
    bench_seconds: float | None
    tools: tuple[str, ...] = ()
    at_least: tuple[str, ...] = ()
    projectors: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    bounds: Mapping[str, int] = field(default_factory=dict)
    search: SearchCost | None = None
    disk_peak: int | None = None
    as_built: bool = False

    @property
    def exact(self) -> bool:
        """Whether every size is exact to the byte."""
        return not self.inexact

    def _projectors(self) -> list[dict[str, Any]]:
        return [
            {"name": name, "type": type_, "bytes": size or None}
            | ({"at_most": self.bounds[name]} if not size and name in self.bounds else {})
            for name, (type_, size) in self.projectors.items()
        ]

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
                    "bytes": row.bytes or None,
                    "bits_per_weight": round(row.bits_per_weight, 4) if row.bytes else None,
                    **({"at_most": True} if row.bound else {}),
                    "shards": row.shards,
                    "fallbacks": list(row.fallbacks),
                    "other_types": round(row.others, 4),
                }
                for row in self.files
            ],
            **({"projectors": self._projectors()} if self.projectors else {}),
            "tasks": [
                {"name": name, "status": status.state, "reason": status.reason} for name, status in self.tasks.items()
            ],
            "findings": list(self.findings),
            **({"tools": list(self.tools)} if self.tools else {}),
            "computed_weights": self.computed_weights,
            "shared_weights": self.shared_weights,
            "seconds": round(self.seconds, 1),
            "disk_bytes": self.disk_bytes,
            **({} if self.disk_peak is None else {"disk_peak": self.disk_peak}),
            "memory_bytes": self.memory_bytes,
            "memory": dict(self.memory),
            **({"memory_at_least": list(self.at_least)} if self.at_least else {}),
            **({"imatrix": self.imatrix.data()} if self.imatrix else {}),
            **({"quality": self.quality.data(self.threads)} if self.quality else {}),
            **({"search": self.search.data(self.threads)} if self.search else {}),
            **({"bench_seconds": round(self.bench_seconds, 1)} if self.bench_seconds is not None else {}),
        }


def projectors(recipe: Recipe, nodes: Mapping[str, Node], space: Workspace) -> dict[str, tuple[str, int]]:
    """The type and bytes of each projector by its name; 0 bytes where it is not made yet."""
    found = {}
    for type_ in recipe.projectors:
        node = nodes[graph.task("mmproj", recipe, type_)]
        made = (space.outputs(node) or {}).get("model.gguf") if space.up_to_date(node, nodes) else None
        found[graph.projector_name(recipe, type_)] = (type_, made.size if made else 0)
    return found


def plan_of(recipe: Recipe, root: Path) -> Plan:
    """The plan of a recipe. Nothing is written, and the network is asked only when there is no lock."""
    space = open_workspace(root)
    lock = locks.peek(recipe, space.store.hints.digest_of)
    nodes = graph.graph(recipe, lock)
    try:
        base = describe(recipe, lock, converted(recipe, lock, nodes, space))
    except Undescribed as error:
        return _undescribed(recipe, lock, nodes, space, error)
    ready = read_imatrix(recipe, space.store.hints.digest_of)
    made = [label for label in graph.labels(recipe) if label != recipe.base.type]
    mixes, facts = known_mixes(recipe, nodes, space), imatrix_facts(recipe, ready)
    files = {label: quantized_file(recipe, label, base, facts, mixes) for label in made}
    rows = [file_row(recipe, label, files.get(label), base) for label in graph.labels(recipe)]
    costs = Costs(recipe, lock, base, files, Rates())
    params = {label: quant_params(recipe, label) for label in recipe.ftypes}
    imatrix, report = (ready, {}) if ready else _measured(recipe, nodes, space)
    stock = {label: files[label] for label in recipe.ftypes}
    found = findings(recipe.reference, base.tensors, stock, imatrix, recipe.imatrix is not None, params, report)
    bench_threads = (recipe.bench and recipe.bench.threads) or space.threads
    imatrix_cost = costs.imatrix(space.threads)
    tasks = _statuses(nodes, space)
    beside, bounds = projectors(recipe, nodes, space), projector_bounds(recipe, lock, base)
    projecting = {name: made or bounds.get(name, 0) for name, (_, made) in beside.items()}
    memory = _memory(nodes, rows, quantize_memory(space.threads), imatrix_cost, costs.quality, costs.search)
    return Plan(
        recipe=recipe.name,
        tag=recipe.llama_cpp,
        release_tag=None if lock.unresolved else tag(recipe, lock),
        inexact=_inexact(recipe, lock, base, ready),
        files=tuple(sorted(rows, key=lambda row: -row.bytes)),
        tasks=tasks,
        findings=(
            *(*_proof(recipe), *_converted(recipe, lock), *lock.notes, *base.notes, *map(str, found)),
            *_beyond(recipe, base, files),
            *_too_much(memory, usable_memory()),
            *_bench_lacks(recipe, lock, base, tasks),
        ),
        computed_weights=sum(costs.quantizing.computed.values()),
        shared_weights=costs.quantizing.shared,
        seconds=costs.quantize_seconds() / space.threads,
        disk_bytes=disk_bytes(recipe, lock, base, files, rows, projecting),
        disk_peak=disk_need(recipe, lock, base, rows, costs.quality.states if costs.quality else 0, projecting).most(
            ("checkpoint", "release"), published=True
        ),
        as_built=recipe.as_built,
        memory_bytes=memory.get("quant", quantize_memory(space.threads)),
        memory=memory,
        imatrix=imatrix_cost,
        threads=space.threads,
        quality=costs.quality,
        search=costs.search,
        bench_seconds=None if costs.bench is None else costs.bench / bench_threads,
        tools=tuple(tool_choice(recipe, lock)),
        at_least=_at_least(nodes),
        projectors=beside,
        bounds=bounds,
    )


def _undescribed(recipe: Recipe, lock: Lock, nodes: Mapping[str, Node], space: Workspace, error: Undescribed) -> Plan:
    """The plan of a recipe whose base is yet to be converted by llama.cpp: tasks and names, and no sizes."""
    labels, threads = graph.labels(recipe), space.threads
    rows = [FileRow(f"{graph.file_name(recipe, label)}.gguf", label, 0, 0.0, 1, (), 0.0, "") for label in labels]
    memory = _memory(nodes, rows, quantize_memory(threads), None, None, None)
    return Plan(
        recipe=recipe.name,
        tag=recipe.llama_cpp,
        release_tag=None if lock.unresolved else tag(recipe, lock),
        inexact=str(error).removeprefix(f"{recipe.path}: "),
        files=tuple(rows),
        tasks=_statuses(nodes, space),
        findings=(*lock.notes, *_unknown_to_engine(recipe, lock)),
        computed_weights=0,
        shared_weights=0,
        seconds=0.0,
        disk_bytes=sum(fact.size for fact in lock.files.values()),
        memory_bytes=memory.get("quant", quantize_memory(threads)),
        memory=memory,
        imatrix=None,
        threads=threads,
        quality=None,
        bench_seconds=None,
        tools=tuple(tool_choice(recipe, lock)),
        at_least=_at_least(nodes),
        projectors=projectors(recipe, nodes, space),
    )


def _unknown_to_engine(recipe: Recipe, lock: Lock) -> list[str]:
    """What is asked of our own engine before it is known whether it computes the base."""
    asked = listed([f"[{name}]" for name in computed(recipe, lock)])
    said = "whether our own engine computes what {} asks for is known once the base is converted"
    way = 'with = "auto" in [imatrix], [evaluation] and [bench] leaves to llama.cpp what it does not'
    return [f"{said.format(asked)}; {way}"] if asked else []


def _proof(recipe: Recipe) -> list[str]:
    """What the tag stands on, where its own files were not compared by quantmill's authors."""
    said = {
        "between": "is proven at both ends: a tag before it and one after it, which write the same, were compared",
        "team": "is admitted by this project's team, not by quantmill",
    }
    return [f"llama.cpp {recipe.llama_cpp} {said[recipe.proof]}"] if recipe.proof in said else []


def _converted(recipe: Recipe, lock: Lock) -> list[str]:
    """Whose converter it is, where it is not the tag's."""
    if not recipe.converts_as or "convert" in lock.tools:
        return []
    return [f"the metadata are converted as llama.cpp {recipe.converts_as} does it, not {recipe.llama_cpp}"]


def _bench_lacks(recipe: Recipe, lock: Lock, base: Description, tasks: Mapping[str, Status]) -> list[str]:
    """What [bench] asks for and is not there, where it is still to run: room for a text, or the program."""
    status, table, found = tasks.get(f"bench:{recipe.name}"), recipe.bench, list[str]()
    if table is None or status is None or status.state not in ("run", "after"):
        return found
    context = next((kv.value for kv in base.kvs if kv.key.endswith(".context_length")), None)
    for test in table.tests if own_bench(recipe, lock) else ():
        if isinstance(context, int) and int(test[2:]) > context:
            found.append(f"[bench]: the test {test} needs a context of {test[2:]} tokens; the model's own is {context}")
    if "bench" in lock.tools and (lacking := locked_tools.lacks(recipe, "bench")):
        found.append(f"[bench]: {lacking}")
    if table.runtime == "llama.cpp" and not which("llama-bench") and not locked_tools.bench_program(recipe):
        found.append(
            "there is no llama-bench on PATH, which [bench] measures with; install llama.cpp, or leave out `runtime`"
        )
    return found


def _beyond(recipe: Recipe, base: Description, files: Mapping[str, FilePlan]) -> list[str]:
    """The tensors, each alone in a shard, that make it larger than the recipe wants: it is written all the same."""
    if not recipe.max_size:
        return []
    held = {label: files[label].tensors if label in files else base.tensors for label in graph.labels(recipe)}
    found = {label: [entry for entry in held[label] if counted_bytes(entry) > recipe.max_size] for label in held}
    said = "{}: the tensor {} has {} bytes, more than split.max_size, and so has its shard"
    return [
        said.format(label, entries[0].name, counted_bytes(entries[0])) for label, entries in found.items() if entries
    ]


def _memory(
    nodes: Mapping[str, graph.Node],
    rows: Sequence[FileRow],
    quantize: int,
    imatrix: ImatrixCost | None,
    quality: QualityCost | None,
    search: SearchCost | None,
) -> dict[str, int]:
    """Of each step, the most that a task of it takes. Bench loads one file at a time. A pass of a text of which nothing
    is known yet may take all that the recipe allows."""
    found: dict[str, int] = {}
    for node in nodes.values():
        step, memory = node.step, int(node.where.get("memory", node.step.memory))
        if step.divides == "tensors":
            memory = quantize
        elif step.counts == "runs":
            memory = step.memory + max(row.bytes for row in rows)
        elif step.counts == "passes":
            if "targets" in node.where:
                memory = search.memory if search and search.tokens else memory
            elif step.divides == "text":
                memory = imatrix.memory if imatrix and imatrix.tokens else memory
            elif quality and quality.tokens:
                memory = quality.memory if step.judges else quality.base_memory
        found[step.name] = max(memory, found.get(step.name, 0))
    return found


def _at_least(nodes: Mapping[str, graph.Node]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(node.step.name for node in nodes.values() if "toolchain" in node.params))


def _too_much(memory: Mapping[str, int], usable: int) -> list[str]:
    return [
        f"{step} may take {disk_text(most)} of memory, of which this process may use {disk_text(usable)}"
        for step, most in memory.items()
        if 0 < usable < most
    ]


def statuses(recipe: Recipe, root: Path) -> dict[str, Status]:
    """What a build would do with each task, by name, in order."""
    space = open_workspace(root)
    return _statuses(graph.graph(recipe, locks.peek(recipe, space.store.hints.digest_of)), space)


def _inexact(recipe: Recipe, lock: Lock, base: Description, imatrix: "Imatrix | None") -> str:
    reasons = [] if base.exact else ["the lock does not know the tokenizer yet"]
    if reasons and "convert" in lock.tools:
        reasons = ["llama.cpp's converter writes the metadata"]
    if recipe.imatrix and recipe.imatrix.file and imatrix is None:
        reasons.append(f"there is no file {recipe.imatrix.file} yet")
    return " and ".join(reasons)


def _measured(
    recipe: Recipe, nodes: Mapping[str, Node], space: Workspace
) -> "tuple[Imatrix | None, Mapping[str, Any]]":
    """The recipe's own imatrix and the report of its measurement, where a build has just those here."""
    from quantmill.imatrix import ImatrixError, read

    node = nodes.get(graph.task("imatrix", recipe))
    if recipe.calibration is None or recipe.imatrix is None or node is None or not space.up_to_date(node, nodes):
        return None, {}
    outputs = space.outputs(node) or {}
    try:
        return read(outputs[recipe.imatrix.output].path), json.loads(outputs["report.json"].path.read_bytes())
    except (KeyError, OSError, ValueError, ImatrixError):
        return None, {}


def _statuses(nodes: Mapping[str, Node], space: Workspace) -> dict[str, Status]:
    known: dict[str, Any] = {}
    return {name: space.status(node, nodes, known) for name, node in nodes.items()}
