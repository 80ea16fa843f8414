"""A recipe's release as its reader will see it: planned sizes, and what a build on this machine has measured."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from quantmill.build import graph
from quantmill.build.graph import Node
from quantmill.build.opening import open_workspace
from quantmill.build.workspace import Workspace
from quantmill.choose.choice import Candidate
from quantmill.choose.shape import Shape, of_file, of_tensors
from quantmill.forecast.base_file import Description, converted
from quantmill.forecast.files import FileRow, described_files
from quantmill.forecast.plan import projectors
from quantmill.forecast.target_files import known_mixes, told_of_search
from quantmill.quant.file_plan import FilePlan
from quantmill.recipe import lock as locks
from quantmill.recipe.lock import Lock
from quantmill.recipe.recipe import Recipe
from quantmill.reference.ftypes import BY_NUMBER
from quantmill.released import Bench, ReleasedFile, bench, quality, rival

TARGETS = "targets.json"  # what the report step tells of targets
CHART = "chart.svg"  # the name of the card step's input for the release's picture


@dataclass(frozen=True)
class Offer:
    """A recipe's files with what was measured of them; `chart` is the name of the release's picture, if it has one;
    `left_out` counts the tensors that its own imatrix has no entry of; `projectors` have 0 bytes until they are
    made."""

    lock: Lock
    files: tuple[ReleasedFile, ...]
    candidates: tuple[Candidate, ...]
    shape: Shape | None
    bench: Bench | None
    chart: str | None
    left_out: int
    projectors: tuple[ReleasedFile, ...] = ()


def of_recipe(recipe: Recipe, root: Path) -> Offer:
    """The files of a recipe that may not be built yet. Nothing is written, and no weights are read."""
    space = open_workspace(root)
    lock = locks.peek(recipe, space.store.hints.digest_of)
    nodes = graph.graph(recipe, lock)
    made = converted(recipe, lock, nodes, space)
    mixes, told = known_mixes(recipe, nodes, space), told_of_search(recipe, nodes, space)
    described = described_files(recipe, lock, space.store.hints.digest_of, made, mixes)
    found = (_output(space, nodes.get(graph.report_task(recipe)), TARGETS) or {}).get("targets", {})
    files = tuple(
        replace(
            ReleasedFile(row.name, label, row.bytes, row.shards, quality(_report(space, nodes, recipe, label))),
            **(_weights(recipe, row) if label != recipe.base.type else {}),
            kind=told.get(label, {}).get("kind", "") or (_kind(file) if recipe.target(label) else ""),
            rival=rival(found.get(label)),
        )
        for label, (row, file) in described.items()
    )
    first = next(iter(described.values()))[1]
    shape = of_file(first.kvs, first.tensors)
    layers = shape.layers if shape else 0
    candidates = tuple(Candidate(file, of_tensors(described[file.ftype][1].tensors, layers)) for file in files)
    speed = bench(_output(space, nodes.get(graph.bench_task(recipe)), "bench.json"))
    shown = {edge.name for edge in nodes[graph.card_task(recipe)].edges}
    report = _output(space, nodes[graph.task("imatrix", recipe)], "report.json") if recipe.calibration else None
    left_out = len(report["left_out"]) if report else 0
    beside = projectors(recipe, nodes, space).items()
    others = tuple(ReleasedFile(name, type_, size, 1) for name, (type_, size) in beside)
    return Offer(lock, files, candidates, shape, speed, CHART if CHART in shown else None, left_out, others)


def _weights(recipe: Recipe, row: FileRow) -> dict[str, Any]:
    """What the file's weights are. `digest` is equal for files that will be: the same types of the tensors, under the
    same number in the header; a target's header tells of its search."""
    digest = "" if recipe.target(row.ftype) else f"{recipe.reference.ftype(row.ftype).id} {row.types}"
    return {"bits": row.bits_per_weight, "others": row.others, "weights": row.types, "digest": digest}


def _kind(file: FilePlan | Description) -> str:
    """The stock ftype whose number the file has."""
    number = next((entry.value for entry in file.kvs if entry.key == "general.file_type"), None)
    return BY_NUMBER[number].name if isinstance(number, int) and number in BY_NUMBER else ""


def _report(space: Workspace, nodes: Mapping[str, Node], recipe: Recipe, label: str) -> Any:
    return _output(space, nodes.get(graph.verify_task(recipe, label)), "verify.json")


def _output(space: Workspace, node: Node | None, name: str) -> Any:
    """A report that a task wrote on this machine; None when it has not run, or its report is gone."""
    outputs = space.outputs(node) if node is not None else None
    if outputs is None or name not in outputs:
        return None
    try:
        return json.loads(outputs[name].path.read_bytes())
    except (OSError, ValueError):
        return None
