"""The nodes that measure: how far files are from their base, and how fast they run."""

from collections.abc import Iterator
from typing import Any

from quantmill import host
from quantmill.build.node import Edge, Node, file_name, task
from quantmill.build.searching import found_edge
from quantmill.recipe import locked_tools
from quantmill.recipe.bench_table import RUNTIMES, BenchTable
from quantmill.recipe.convert_table import LLAMA_CPP
from quantmill.recipe.lock import Lock
from quantmill.recipe.recipe import Recipe
from quantmill.steps import STEPS
from quantmill.steps.bench import ROWS
from quantmill.steps.bench import Params as BenchParams
from quantmill.steps.evaluate import PREDICTIONS
from quantmill.steps.evaluate import Params as EvaluateParams
from quantmill.steps.report import Params as ReportParams

STEP = "evaluation"  # of a lock's tools


def evaluate(recipe: Recipe, lock: Lock, base: Edge, preflight: Node, generation: int) -> Node:
    """The base's predictions."""
    table = recipe.evaluation
    assert table is not None
    params = EvaluateParams(text=["evaluation.txt", table.text.name], n_ctx=table.n_ctx, arithmetic=table.arithmetic)
    if table.chunks:
        params["chunks"] = table.chunks
    where = {"memory": table.memory, "generation": recipe.generation}
    if STEP in lock.tools:
        params["arithmetic"] = LLAMA_CPP
        params["toolchain"] = locked_tools.facts(lock.tools, STEP)
        if table.args:
            params["args"] = list(table.args)
        where, generation = {"memory": least_memory(lock)}, 0
    edges, after = (base, Edge(task("evaluation", recipe), "*", "texts/")), (preflight.name,)
    return Node(task("evaluate", recipe), STEPS["evaluate"], params, edges, generation, where, after=after)


def quality(recipe: Recipe, lock: Lock, label: str, source: Edge, base: Edge) -> Iterator[Node]:
    """How far one file is from the base."""
    table = recipe.evaluation
    assert table is not None
    name, original = task("quality", recipe, label), Edge(base.node, base.output, "base.gguf")
    params: dict[str, Any] = {"arithmetic": table.arithmetic}
    where: dict[str, Any] = {"memory": table.memory, "place": f"{file_name(recipe, label)}.gguf"}
    stored = tuple(Edge(task("evaluate", recipe), name, name) for name in ("states.npy", "tokens.npy"))
    if STEP in lock.tools:  # what it measures is a node of its own, which a release brings with it
        params = {"arithmetic": LLAMA_CPP, "toolchain": locked_tools.facts(lock.tools, STEP), "n_ctx": table.n_ctx}
        params |= {"args": list(table.args)} if table.args else {}
        measure, edge = task("measure", recipe, label), Edge(task("evaluate", recipe), PREDICTIONS, PREDICTIONS)
        place = {"place": where["place"]}
        yield Node(measure, STEPS["quality"], params, (source, edge), where={"memory": least_memory(lock), **place})
        params, where = {"arithmetic": LLAMA_CPP}, {"memory": STEPS["verify"].memory, **place}
        stored = (Edge(measure, "quality.json", "measured.json"),)
    yield Node(name, STEPS["quality"], params, (source, original, *stored), where=where)


def least_memory(lock: Lock) -> int:
    """What a program of llama.cpp's takes at least: the base, which it reads as a whole."""
    return sum(fact.size for fact in lock.files.values())


def report(recipe: Recipe, reports: tuple[Edge, ...]) -> Node:
    """The page and the picture of what was measured."""
    own = task("verify", recipe, recipe.base.type)
    edges = tuple(edge for edge in reports if edge.node != own)
    edges = (*edges, Edge(task("evaluate", recipe), "evaluation.json", "evaluation.json"))
    params = ReportParams(title=recipe.prefix, llama_cpp=recipe.llama_cpp)
    if recipe.targets:
        params["targets"] = [target.name for target in recipe.targets]
        edges = (*edges, *(found_edge(recipe, target.name) for target in recipe.targets))
        params |= {"strict": True} if recipe.strict else {}
    return Node(task("report", recipe), STEPS["report"], params, edges)


def own_bench(recipe: Recipe, lock: Lock) -> bool:
    """Whether our own kernels run the files."""
    return recipe.bench is not None and recipe.bench.runtime == RUNTIMES[0] and "bench" not in lock.tools


def bench(
    recipe: Recipe, lock: Lock, table: BenchTable, labels: tuple[str, ...], base: Edge, checked: tuple[str, ...]
) -> Iterator[Node]:
    """Measured last, when nothing else of the recipe is at work; the key names the host, whose the numbers are. Files
    that are published as they are built are measured each on its own, and the last node puts the rows together."""
    names = {label: f"{file_name(recipe, label)}.gguf" for label in labels if label in table.ftypes}
    edges = tuple(
        Edge(base.node, base.output, label)
        if label == recipe.base.type
        else Edge(task("quant", recipe, label), "model.gguf", label)
        for label in names
    )
    runtime, digest, where = RUNTIMES[0], "", dict[str, str]()
    if not own_bench(recipe, lock):
        runtime = RUNTIMES[1]
        if found := locked_tools.bench_program(recipe):
            where["program"], digest = str(found[0]), found[1]
        elif "bench" in lock.tools:
            where["missing"] = locked_tools.lacks(recipe, "bench")
    params = BenchParams(
        names=names,
        tests=list(table.tests),
        runtime=runtime,
        repetitions=table.repetitions,
        threads=table.threads or host.usable_threads(),
        host=host.facts(runtime, None if "missing" in where else digest),
    )
    if table.args:
        params["args"] = list(table.args)
    name, step = task("bench", recipe), STEPS["bench"]
    if not recipe.as_built:
        yield Node(name, step, params, edges, where=where, after=checked)
        return
    for edge in edges:
        alone, verified = {**params, "names": {edge.name: names[edge.name]}}, task("verify", recipe, edge.name)
        yield Node(task("bench", recipe, edge.name), step, alone, (edge,), where=where, after=(verified,))
    rows = tuple(Edge(task("bench", recipe, label), "bench.json", f"{ROWS}{label}") for label in names)
    yield Node(name, step, params, rows)
