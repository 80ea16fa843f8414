"""The graph of a recipe: every task, what it reads, and what decides its bytes.

Pure: a recipe and its lock in, nodes out. Nothing is read but small JSON, nothing heavy is imported. Only
a recipe with [bench] asks the host what it is.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from quantmill.recipe import texts as calibration, page_params
from quantmill import host
from quantmill.build import release_tag
from quantmill.artifact import Artifact
from quantmill.recipe.lock import Lock, local_files
from quantmill.recipe.recipe import Recipe
from quantmill.recipe.bench_table import BenchTable

ALL = "*"


@dataclass(frozen=True)
class Edge:
    """One thing that a node reads: `output` of the node `node` (ALL: each of its outputs, in which case `name` is put
    before the output's own name), under the input name `name`."""

    node: str
    output: str
    name: str


@dataclass(frozen=True)
class Node:
    """One task. `params` and the digests behind `edges` make its key; `where` and `files` (local copies of what
    `params` names by digest) only say where things can be had; `after` names nodes that must have succeeded first,
    though nothing of theirs is read."""

    name: str
    step: str
    params: Mapping[str, Any]
    edges: tuple[Edge, ...] = ()
    generation: int = 0
    where: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Artifact] = field(default_factory=dict)
    after: tuple[str, ...] = ()


def graph(recipe: Recipe, lock: Lock) -> dict[str, Node]:
    """The recipe's nodes by task name, each after those that it reads."""
    nodes = {node.name: node for node in _nodes(recipe, lock)}
    last = task("release", recipe)
    nodes[last] = _proven(recipe, lock, nodes, nodes[last])
    return nodes


def task(step: str, recipe: Recipe, label: str = "") -> str:
    """A task's name: `step:recipe` or `step:recipe/FTYPE`."""
    return f"{step}:{recipe.name}/{label}" if label else f"{step}:{recipe.name}"


def labels(recipe: Recipe) -> tuple[str, ...]:
    """The FTYPE part of the released files' task names: the base's own file first, then the matrix."""
    return ((recipe.base.type,) if recipe.base_file else ()) + recipe.ftypes


def file_name(recipe: Recipe, label: str) -> str:
    """A released file's name without its ending. The base's own file is written small, as release pages do."""
    return f"{recipe.prefix}-{label.lower() if label == recipe.base.type else label}"


def quant_params(recipe: Recipe, label: str) -> dict[str, Any]:
    """What decides how one file is quantized, as plain JSON: the quant step's params."""
    overrides = recipe.overrides_of(label)
    first = {
        key: next((value for o in overrides if (value := getattr(o, key)) is not None), None)
        for key in ("output", "token_embedding")
    }
    params: dict[str, Any] = {
        "ftype": label,
        "imatrix_name": recipe.imatrix.name if recipe.imatrix else None,
        "output_tensor_type": first["output"],
        "token_embedding_type": first["token_embedding"],
        "tensor_types": [list(pair) for o in overrides for pair in o.tensors],
    }
    return {key: value for key, value in params.items() if value}


def _nodes(recipe: Recipe, lock: Lock) -> Iterable[Node]:
    # What is quick and may fail comes before what takes hours: the imatrix, preflight, then the weights.
    imatrix: tuple[Edge, ...] = ()
    if recipe.imatrix and recipe.imatrix.file:
        file = Artifact(recipe.imatrix.file, recipe.imatrix.sha256, 0)
        params = {"files": {"imatrix.dat": {"sha256": file.sha256, "size": 0}}}
        yield Node(task("imatrix", recipe), "download", params, files={"imatrix.dat": file})
        imatrix = (Edge(task("imatrix", recipe), "imatrix.dat", "imatrix.dat"),)
    preflight = _preflight(recipe, lock, imatrix)
    base = Edge(task("download", recipe), "model.gguf", "model.gguf")
    first: tuple[str, ...] = ()
    for texts in _texts(recipe, lock):
        yield texts
        first = (*first, texts.name)
    if recipe.base.gguf is None:
        yield preflight
        yield _download(recipe, lock, after=(*first, preflight.name))
        yield _convert(recipe)
        base = Edge(task("convert", recipe), "model.gguf", "model.gguf")
    else:
        yield _download(recipe, lock, after=(*first, *(edge.node for edge in imatrix)))
        yield preflight
    if recipe.calibration:
        yield _imatrix(recipe, base, preflight)
        imatrix = (Edge(task("imatrix", recipe), "imatrix.dat", "imatrix.dat"),)
    if recipe.evaluation:
        yield _evaluate(recipe, base, preflight)
    index = Node(task("index", recipe), "index", {}, (base,))
    if recipe.ftypes:
        yield index
    for label in labels(recipe):
        source = base
        if label != recipe.base.type:
            source = Edge(task("quant", recipe, label), "model.gguf", "model.gguf")
            yield Node(
                source.node,
                "quant",
                quant_params(recipe, label),
                (base, Edge(index.name, "tensors.json", "tensors.json"), *imatrix),
                recipe.generation,
                where={"generation": recipe.generation},  # keyed by the field of its own
                after=(preflight.name,),
            )
        name = file_name(recipe, label)
        limit = {"prefix": name, "max_size": recipe.max_size}
        yield Node(task("split", recipe, label), "split", limit, (source,), after=(preflight.name,))
        if recipe.evaluation and source is not base:
            yield _quality(recipe, label, source, base)
        yield _verify(recipe, label, base)
    yield from _release(recipe, lock, base)


def _download(recipe: Recipe, lock: Lock, after: tuple[str, ...]) -> Node:
    files = {name: {"sha256": fact.sha256, "size": fact.size} for name, fact in sorted(lock.files.items())}
    local = {
        name: Artifact(path, lock.files[name].sha256, lock.files[name].size)
        for name, path in (local_files(recipe) or {}).items()
    }
    where = {key: lock.base[key] for key in ("repo", "commit") if key in lock.base}
    return Node(task("download", recipe), "download", {"files": files}, where=where, files=local, after=after)


def _convert(recipe: Recipe) -> Node:
    given = {"name": recipe.base.model_name, "pre_tokenizer": recipe.base.pre_tokenizer}
    params = {"type": recipe.base.type} | {key: value for key, value in given.items() if value}
    return Node(
        task("convert", recipe), "convert", params, (Edge(task("download", recipe), ALL, ""),), recipe.generation
    )


def _texts(recipe: Recipe, lock: Lock) -> Iterable[Node]:
    for kind, named, known in (
        ("calibration", calibration.texts(recipe), lock.calibration),
        ("evaluation", calibration.evaluation(recipe), lock.evaluation),
    ):
        facts = {name: known.get(text.name) for name, text in named.items()}
        files = {name: {"sha256": fact.sha256, "size": fact.size} for name, fact in facts.items() if fact}
        where = {"urls": {name: text.url for name, text in named.items() if text.url}}
        local = calibration.local(named, known)
        if named:
            yield Node(task(kind, recipe), "download", {"files": files}, where=where, files=local)


def _imatrix(recipe: Recipe, base: Edge, preflight: Node) -> Node:
    said, how = recipe.calibration, recipe.imatrix
    assert said is not None
    assert how is not None
    params = {
        "arithmetic": how.arithmetic,
        "texts": [[name, text.name, text.weight] for name, text in calibration.texts(recipe).items()],
        "n_ctx": said.n_ctx,
        "from_chunk": said.from_chunk,
        **({"chunks": said.chunks} if said.chunks else {}),
        **({"process_output": True} if said.process_output else {}),
        **({} if said.perplexity else {"perplexity": False}),
    }
    edges = (base, Edge(task("calibration", recipe), ALL, "texts/"))
    where = {"memory": how.memory}
    return Node(
        task("imatrix", recipe), "imatrix", params, edges, recipe.generation, where=where, after=(preflight.name,)
    )


def _preflight(recipe: Recipe, lock: Lock, imatrix: tuple[Edge, ...]) -> Node:
    params: dict[str, Any] = {"ftypes": {label: quant_params(recipe, label) for label in recipe.ftypes}}
    params["type"] = recipe.base.type
    edges = imatrix
    if recipe.base.gguf is None:
        params["config"] = lock.config
    else:
        edges = (*imatrix, Edge(task("download", recipe), "model.gguf", "model.gguf"))
    if recipe.calibration:
        params["computed"] = True
    if recipe.strict:
        params["strict"] = True
    # Before hours are spent: texts that no model can be measured on, or that share passages.
    where: dict[str, Any] = {}
    for kind, prefix, named, said in (
        ("evaluation", "texts/", calibration.evaluation(recipe), recipe.evaluation),
        ("calibration", "seen/", calibration.texts(recipe), recipe.calibration),
    ):
        if said is not None:
            edges = (*edges, Edge(task(kind, recipe), ALL, prefix))
            where.setdefault("names", {}).update({prefix + name: text.name for name, text in named.items()})
            params.setdefault("least", {})[prefix] = said.least
    return Node(task("preflight", recipe), "preflight", params, edges, where=where)


def _evaluate(recipe: Recipe, base: Edge, preflight: Node) -> Node:
    said = recipe.evaluation
    assert said is not None
    params: dict[str, Any] = {"text": ["evaluation.txt", said.text.name], "n_ctx": said.n_ctx}
    params |= {"arithmetic": said.arithmetic} | ({"chunks": said.chunks} if said.chunks else {})
    edges = (base, Edge(task("evaluation", recipe), ALL, "texts/"))
    where = {"memory": said.memory}
    return Node(task("evaluate", recipe), "evaluate", params, edges, where=where, after=(preflight.name,))


def _quality(recipe: Recipe, label: str, source: Edge, base: Edge) -> Node:
    said = recipe.evaluation
    assert said is not None
    stored = tuple(Edge(task("evaluate", recipe), name, name) for name in ("states.npy", "tokens.npy"))
    edges = (source, Edge(base.node, base.output, "base.gguf"), *stored)
    where = {"memory": said.memory, "place": f"{file_name(recipe, label)}.gguf"}
    return Node(task("quality", recipe, label), "quality", {"arithmetic": said.arithmetic}, edges, where=where)


def _verify(recipe: Recipe, label: str, base: Edge) -> Node:
    own = label == recipe.base.type
    params = {} if own else quant_params(recipe, label)
    edges = [Edge(task("split", recipe, label), ALL, "files/"), Edge(base.node, base.output, "base.gguf")]
    if recipe.evaluation:
        measured = task("evaluate", recipe) if own else task("quality", recipe, label)
        edges.append(Edge(measured, "evaluation.json" if own else "quality.json", "quality.json"))
    if recipe.gates and not own:
        params["gates"] = dict(recipe.gates)
    return Node(task("verify", recipe, label), "verify", params, tuple(edges))


def _release(recipe: Recipe, lock: Lock, base: Edge) -> Iterable[Node]:
    files = tuple(Edge(task("split", recipe, label), ALL, f"{label}/") for label in labels(recipe))
    reports = tuple(Edge(task("verify", recipe, label), "verify.json", f"{label}.json") for label in labels(recipe))
    facts = {"recipe": recipe.name, "prefix": recipe.prefix, "llama_cpp": recipe.llama_cpp}
    seen: tuple[Edge, ...] = (*files, *reports)
    pages: tuple[Edge, ...] = ()
    if recipe.evaluation and recipe.ftypes:
        report = _report(recipe, reports)
        yield report
        seen = (*seen, Edge(report.name, "chart.svg", "chart.svg"))
        pages = (Edge(report.name, ALL, "page/"),)
    if recipe.bench:
        speeds = _bench(recipe, recipe.bench, base, tuple(edge.node for edge in reports))
        yield speeds
        seen = (*seen, Edge(speeds.name, "bench.json", "bench.json"))
        pages = (*pages, Edge(speeds.name, "bench.json", "page/bench.json"))
    yield Node(task("card", recipe), "card", card_params(recipe, lock), seen)
    pages = (*pages, Edge(task("card", recipe), ALL, "page/"))
    yield Node(task("release", recipe), "release", facts, (*files, *reports, *pages))


def _bench(recipe: Recipe, said: BenchTable, base: Edge, checked: tuple[str, ...]) -> Node:
    """Measured last, when nothing else of the recipe is at work; the key names the host, whose the numbers are."""
    names = {label: f"{file_name(recipe, label)}.gguf" for label in labels(recipe) if label in said.ftypes}
    edges = tuple(
        Edge(base.node, base.output, label)
        if label == recipe.base.type
        else Edge(task("quant", recipe, label), "model.gguf", label)
        for label in names
    )
    params = {
        "names": names,
        "tests": list(said.tests),
        "runtime": said.runtime,
        "repetitions": said.repetitions,
        "threads": said.threads or host.usable_threads(),
        "host": host.facts(said.runtime),
    }
    return Node(task("bench", recipe), "bench", params, edges, after=checked)


def _report(recipe: Recipe, reports: tuple[Edge, ...]) -> Node:
    own = task("verify", recipe, recipe.base.type)
    edges = tuple(edge for edge in reports if edge.node != own)
    edges = (*edges, Edge(task("evaluate", recipe), "evaluation.json", "evaluation.json"))
    params = {"title": recipe.prefix, "llama_cpp": recipe.llama_cpp}
    return Node(task("report", recipe), "report", params, edges)


def _proven(recipe: Recipe, lock: Lock, nodes: Mapping[str, Node], release: Node) -> Node:
    """The release node with what it tells of how it was made, and the importance matrix."""
    downloads = [
        (node.name.partition(":")[0], node.params["files"], node.where)
        for node in nodes.values()
        if node.step == "download"
    ]
    edges = release.edges
    if (imatrix := task("imatrix", recipe)) in nodes:
        edges = (*edges, Edge(imatrix, "imatrix.dat", f"page/{recipe.prefix}.imatrix"))
    return replace(release, params={**release.params, **release_tag.params(recipe, lock, downloads)}, edges=edges)


def card_params(recipe: Recipe, lock: Lock) -> dict[str, Any]:
    """What decides the page beside the files: the card step's params."""
    return page_params.params(recipe, lock) | {"ftypes": list(labels(recipe))}
