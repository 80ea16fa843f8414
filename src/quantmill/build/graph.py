"""The graph of a recipe: every task, what it reads, and what decides its bytes.

Pure: a recipe and its lock in, nodes out. Nothing is read but small JSON, nothing heavy is imported. Only
a recipe with [bench] asks the host what it is.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, cast

from quantmill.artifact import Artifact
from quantmill.build import measuring, release_tag, searching
from quantmill.build.node import ALL, Edge, Node, file_name, given, projector_name, task
from quantmill.build.step_params import convert_params, imatrix_name, imatrix_params, preflight_params, projector_params
from quantmill.build.step_params import quant_params, release_params
from quantmill.listing import IMATRIX_ENDING
from quantmill.recipe import page_params, texts
from quantmill.recipe.base_files import local_files
from quantmill.recipe.convert_table import LLAMA_CPP
from quantmill.recipe.lock import Lock
from quantmill.recipe.recipe import Recipe
from quantmill.steps import STEPS
from quantmill.steps.report import PAGES, TARGETS
from quantmill.steps.split import Params as SplitParams
from quantmill.steps.verify import Params as VerifyParams
from quantmill.store.key import finite

__all__ = ["ALL", "Edge", "Node", "file_name", "given", "graph", "projector_name", "task"]
EVALUATED = "evaluation"  # the folder of a release's measurements by llama-perplexity
MEASURED = "imatrix.json"  # of a release whose matrix llama-imatrix made: the report of its measurement


def graph(recipe: Recipe, lock: Lock) -> dict[str, Node]:
    """The recipe's nodes by task name, each after those that it reads."""
    nodes = {node.name: node for node in _nodes(recipe, lock)}
    last = task("release", recipe)
    nodes[last] = _with_statement(recipe, lock, nodes, nodes[last])
    return nodes


def base_task(recipe: Recipe) -> str:
    """The task that brings the base's files in."""
    return task("download", recipe)


def targets(recipe: Recipe, files: Iterable[str] = ()) -> list[str]:
    """The tasks of a build: those of the files of these labels, else the release."""
    return [task("verify", recipe, label) for label in files] or [release_task(recipe.name)]


def verify_task(recipe: Recipe, label: str) -> str:
    """The task that checks a released file; its report holds what was measured of it."""
    return task("verify", recipe, label)


def card_task(recipe: Recipe) -> str:
    """The task that writes the page."""
    return task("card", recipe)


def report_task(recipe: Recipe) -> str:
    """The task that draws what was measured, where the recipe has it."""
    return task("report", recipe)


def bench_task(recipe: Recipe) -> str:
    """The task that measures speeds, where the recipe has it."""
    return task("bench", recipe)


def release_task(name: str) -> str:
    """The last task of a recipe of that name."""
    return f"release:{name}"


def labels(recipe: Recipe) -> tuple[str, ...]:
    """The FTYPE part of the released files' task names: the base's own file, then the matrix, then the targets."""
    own = (recipe.base.type,) if recipe.base_file else ()
    return (*own, *recipe.ftypes, *(target.name for target in recipe.targets))


def _nodes(recipe: Recipe, lock: Lock) -> Iterable[Node]:
    # What is quick and may fail comes before what takes hours: the imatrix, preflight, then the weights.
    imatrix: tuple[Edge, ...] = ()
    if recipe.imatrix and recipe.imatrix.file:
        file = Artifact(recipe.imatrix.file, recipe.imatrix.sha256, 0)
        params = {"files": {recipe.imatrix.output: {"sha256": file.sha256, "size": 0}}}
        yield Node(task("imatrix", recipe), STEPS["download"], params, files={recipe.imatrix.output: file})
        imatrix = (Edge(task("imatrix", recipe), recipe.imatrix.output, "imatrix.dat"),)
    preflight = _preflight(recipe, lock, imatrix)
    base = Edge(task("download", recipe), "model.gguf", "model.gguf")
    first: tuple[str, ...] = ()
    checked: tuple[str, ...] = (preflight.name,)
    for text in _texts(recipe, lock):
        yield text
        first = (*first, text.name)
    if recipe.base.gguf is None:
        base = Edge(task("convert", recipe), "model.gguf", "model.gguf")
    if _known_before(recipe, lock):
        yield preflight
        yield _download(recipe, lock, after=(*first, preflight.name))
        yield _convert(recipe, lock)
    else:
        yield _download(recipe, lock, after=(*first, *(edge.node for edge in imatrix)))
        if recipe.base.gguf is None:
            yield _convert(recipe, lock)
        yield preflight
    for type_ in recipe.projectors:
        yield _projector(recipe, lock, type_)
    if recipe.calibration and recipe.imatrix:
        yield _imatrix(recipe, lock, base, preflight)
        imatrix = (Edge(task("imatrix", recipe), recipe.imatrix.output, "imatrix.dat"),)
        measured = _coverage(recipe, base, imatrix)
        yield measured
        checked = (*checked, measured.name)
    if recipe.evaluation:
        yield measuring.evaluate(recipe, lock, base, preflight, _later(recipe))
    index = Node(task("index", recipe), STEPS["index"], {}, (base,))
    if recipe.ftypes or recipe.targets:
        yield index
    if recipe.search:
        yield searching.sensitivity(recipe, base, imatrix, checked)
    for label in labels(recipe):
        source = base
        if label != recipe.base.type:
            source = Edge(task("quant", recipe, label), "model.gguf", "model.gguf")
            mix: tuple[Edge, ...] = ()
            if target := recipe.target(label):
                yield searching.mix(recipe, target, base, imatrix)
                mix = (searching.mix_edge(recipe, label),)
            yield Node(
                source.node,
                STEPS["quant"],
                quant_params(recipe, label),
                (base, Edge(index.name, "tensors.json", "tensors.json"), *imatrix, *mix),
                recipe.generation,
                where=_span(recipe),
                after=checked,
            )
        name = file_name(recipe, label)
        limit = SplitParams(prefix=name, max_size=recipe.max_size)
        yield Node(task("split", recipe, label), STEPS["split"], limit, (source,), after=(preflight.name,))
        if recipe.evaluation and source is not base:
            yield from measuring.quality(recipe, lock, label, source, base)
        yield _verify(recipe, label, base)
    yield from _release(recipe, lock, base)


def _known_before(recipe: Recipe, lock: Lock) -> bool:
    """Whether the base's tensors are known by its configuration: not those that only llama.cpp's converter knows."""
    return recipe.base.gguf is None and "convert" not in lock.tools


def _span(recipe: Recipe) -> dict[str, int]:
    """What a step is told of the span whose rules it follows; the key has a field of its own for it."""
    return {"generation": recipe.generation}


def _later(recipe: Recipe) -> int:
    """The span in keys of steps that did not hold it while there was one."""
    return recipe.generation if recipe.generation > 1 else 0


def _download(recipe: Recipe, lock: Lock, after: tuple[str, ...]) -> Node:
    files = {name: {"sha256": fact.sha256, "size": fact.size} for name, fact in sorted(lock.files.items())}
    local = {
        name: Artifact(path, lock.files[name].sha256, lock.files[name].size)
        for name, path in (local_files(recipe) or {}).items()
    }
    where = {key: lock.base[key] for key in ("repo", "commit") if key in lock.base}
    return Node(task("download", recipe), STEPS["download"], {"files": files}, where=where, files=local, after=after)


def _convert(recipe: Recipe, lock: Lock) -> Node:
    params, edges = convert_params(recipe, lock), (Edge(task("download", recipe), ALL, ""),)
    return Node(task("convert", recipe), STEPS["convert"], params, edges, recipe.generation, where=_span(recipe))


def _projector(recipe: Recipe, lock: Lock, type_: str) -> Node:
    params, edges = projector_params(recipe, lock, type_), (Edge(task("download", recipe), ALL, ""),)
    return Node(task("mmproj", recipe, type_), STEPS["convert"], params, edges)


def _texts(recipe: Recipe, lock: Lock) -> Iterable[Node]:
    for kind, of in texts.KINDS.items():
        named, known = of(recipe), lock.texts[kind]
        facts = {name: known.get(text.name) for name, text in named.items()}
        files = {name: {"sha256": fact.sha256, "size": fact.size} for name, fact in facts.items() if fact}
        where = {"urls": {name: text.url for name, text in named.items() if text.url}}
        local = texts.local(named, known)
        if named:
            yield Node(task(kind, recipe), STEPS["download"], {"files": files}, where=where, files=local)


def _imatrix(recipe: Recipe, lock: Lock, base: Edge, preflight: Node) -> Node:
    assert recipe.imatrix is not None
    edges = (base, Edge(task("calibration", recipe), ALL, "texts/"))
    least = measuring.least_memory(lock) if "imatrix" in lock.tools else recipe.imatrix.memory
    where = {"memory": least} | _span(recipe)
    name, params, after = task("imatrix", recipe), imatrix_params(recipe, lock), (preflight.name,)
    return Node(name, STEPS["imatrix"], params, edges, recipe.generation, where=where, after=after)


def _coverage(recipe: Recipe, base: Edge, imatrix: tuple[Edge, ...]) -> Node:
    """What a measured matrix leaves open, before anything is quantized by it."""
    params = preflight_params(recipe)
    edges = (*imatrix, Edge(imatrix[0].node, "report.json", "report.json"), base)
    return Node(task("coverage", recipe), STEPS["preflight"], params, edges, _later(recipe), where=_span(recipe))


def _preflight(recipe: Recipe, lock: Lock, imatrix: tuple[Edge, ...]) -> Node:
    params = preflight_params(recipe)
    edges = imatrix
    if _known_before(recipe, lock):
        params["config"] = finite(lock.config)
        if lock.output:
            params["output"] = True
    else:
        made = "convert" if recipe.base.gguf is None else "download"
        edges = (*imatrix, Edge(task(made, recipe), "model.gguf", "model.gguf"))
        params["llama_cpp"] = recipe.llama_cpp
        if measuring.own_bench(recipe, lock):
            params["bench"] = True
    if recipe.calibration:
        params["computed"] = True
    if recipe.targets:
        params["searched"] = True
    if "imatrix" in lock.tools:
        params["measured_by"] = LLAMA_CPP
    if measuring.STEP in lock.tools:
        params["evaluated_by"] = LLAMA_CPP
    if lock.notes:
        params["notes"] = list(lock.notes)
    # Before hours are spent: texts that no model can be measured on, or that share passages.
    names: dict[str, str] = {}
    least: dict[str, int] = {}
    for kind, prefix, named, table in (
        ("evaluation", "texts/", texts.evaluation(recipe), recipe.evaluation),
        ("calibration", "seen/", texts.calibration(recipe), recipe.calibration),
        ("search", "searched/", texts.search(recipe), recipe.search),
    ):
        if table is not None and named:
            edges = (*edges, Edge(task(kind, recipe), ALL, prefix))
            names |= {prefix + name: text.name for name, text in named.items()}
            least[prefix] = table.least
    if least:
        params["least"] = least
    where = ({"names": names} if names else {}) | _span(recipe)
    return Node(task("preflight", recipe), STEPS["preflight"], params, edges, _later(recipe), where=where)


def _verify(recipe: Recipe, label: str, base: Edge) -> Node:
    own = label == recipe.base.type
    params = VerifyParams() if own else cast(VerifyParams, dict(quant_params(recipe, label)))
    edges = [Edge(task("split", recipe, label), ALL, "files/"), Edge(base.node, base.output, "base.gguf")]
    if recipe.evaluation:
        measured = task("evaluate", recipe) if own else task("quality", recipe, label)
        edges.append(Edge(measured, "evaluation.json" if own else "quality.json", "quality.json"))
    if recipe.target(label):
        edges.append(searching.mix_edge(recipe, label))
    if recipe.gates and not own:
        params["gates"] = dict(recipe.gates)
    if recipe.imatrix and not own:
        params["spoiled"] = True
    if recipe.strict and not own:
        params["strict"] = True
    return Node(task("verify", recipe, label), STEPS["verify"], params, tuple(edges), _later(recipe), _span(recipe))


def _release(recipe: Recipe, lock: Lock, base: Edge) -> Iterable[Node]:
    files = tuple(Edge(task("split", recipe, label), ALL, f"{label}/") for label in labels(recipe))
    reports = tuple(Edge(task("verify", recipe, label), "verify.json", f"{label}.json") for label in labels(recipe))
    facts = release_params(recipe, lock)
    found = tuple(searching.found_edge(recipe, target.name) for target in recipe.targets)
    seen: tuple[Edge, ...] = (*files, *reports, *found)
    pages: tuple[Edge, ...] = found
    if recipe.evaluation and (recipe.ftypes or recipe.targets):
        report = measuring.report(recipe, reports)
        yield report
        seen = (*seen, Edge(report.name, "chart.svg", "chart.svg"))
        pages = (*pages, *(Edge(report.name, output, f"page/{output}") for output in PAGES))
        if recipe.targets:
            seen = (*seen, Edge(report.name, TARGETS, TARGETS))
    if recipe.bench:
        checks = tuple(edge.node for edge in reports)
        *each, speeds = measuring.bench(recipe, lock, recipe.bench, labels(recipe), base, checks)
        yield from (*each, speeds)
        seen = (*seen, Edge(speeds.name, "bench.json", "bench.json"))
        pages = (*pages, Edge(speeds.name, "bench.json", "page/bench.json"))
    if recipe.calibration:
        seen = (*seen, Edge(task("imatrix", recipe), "report.json", "imatrix.json"))
    seen = (*seen, Edge(task("preflight", recipe), "makeup.json", "makeup.json"))
    for type_ in recipe.projectors:
        name, projector = projector_name(recipe, type_), task("mmproj", recipe, type_)
        seen = (*seen, Edge(projector, "model.gguf", f"mmproj/{name}"))
        pages = (*pages, Edge(projector, "model.gguf", f"page/{name}"))
    yield Node(task("card", recipe), STEPS["card"], card_params(recipe, lock), seen)
    pages = (*pages, Edge(task("card", recipe), ALL, "page/"))
    yield Node(task("release", recipe), STEPS["release"], facts, (*files, *reports, *pages))


def _with_statement(recipe: Recipe, lock: Lock, nodes: Mapping[str, Node], release: Node) -> Node:
    """The release node with what it tells of how it was made, and the importance matrix."""
    downloads = [
        (node.name.partition(":")[0], node.params["files"], node.where) for node in nodes.values() if node.step.holds
    ]
    edges = release.edges
    if recipe.imatrix:
        edges = (*edges, Edge(task("imatrix", recipe), recipe.imatrix.output, f"page/{imatrix_name(recipe)}"))
    if "imatrix" in lock.tools:  # nobody else measures it to the same bytes
        edges = (*edges, Edge(task("imatrix", recipe), "report.json", f"page/{MEASURED}"))
    if measuring.STEP in lock.tools:
        edges = (*edges, Edge(task("evaluate", recipe), "evaluation.json", f"page/{EVALUATED}/base.json"))
        measured = [label for label in labels(recipe) if label != recipe.base.type]
        found = {label: f"page/{EVALUATED}/{label}.json" for label in measured}
        edges = (*edges, *(Edge(task("measure", recipe, label), "quality.json", name) for label, name in found.items()))
    return replace(release, params={**release.params, **release_tag.params(recipe, lock, downloads)}, edges=edges)


def card_params(recipe: Recipe, lock: Lock) -> dict[str, Any]:
    """What decides the page beside the files: the card step's params."""
    found = page_params.params(recipe, lock) | {"ftypes": list(labels(recipe))}
    projectors = {projector_name(recipe, type_): type_ for type_ in recipe.projectors}
    return found | ({"projectors": projectors} if projectors else {})


def below(names: list[str], nodes: Mapping[str, Node]) -> dict[str, Node]:
    """The nodes of those names and all that they need, in the graph's order."""
    wanted, waiting = set(), list(names)
    while waiting:
        name = waiting.pop()
        if name not in wanted:
            wanted.add(name)
            waiting += [*(edge.node for edge in nodes[name].edges), *nodes[name].after]
    return {name: node for name, node in nodes.items() if name in wanted}
