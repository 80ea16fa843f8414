"""A build that publishes each file as soon as it is made and found right, and then lets it go (build/local/clearing.py).

The graph gets a task `publish` for each file, and a file waits until those before it are published, but for as many as
may be here at a time.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from quantmill.build.graph import ALL, Edge, Node, labels, task
from quantmill.build.node_key import key_of, upstream
from quantmill.build.workspace import Workspace
from quantmill.recipe.recipe import Recipe
from quantmill.steps import STEPS


class Destination(NamedTuple):
    """Where files go: the Hub repository of that name, or the shared store at that address. `tag` is the release's."""

    name: str
    hub: bool
    tag: str


def publishing(
    recipe: Recipe, nodes: Mapping[str, Node], place: Destination, only: Collection[str] = ()
) -> tuple[dict[str, Node], list[str]]:
    """The graph with a task for each file's publication, and those of the files `only` (all of them)."""
    found = dict(nodes)
    sent: list[str] = []
    # What may be at work beside nothing else, or reads a checkpoint that is to go before there are files.
    quiet = tuple(task("mmproj", recipe, type_) for type_ in recipe.projectors)
    made: tuple[str, ...] = ()
    where = {"hub": True, "tag": place.tag, "private": recipe.card.private} if place.hub else {}
    for label in (label for label in labels(recipe) if not only or label in only):
        quant, bench = found.get(task("quant", recipe, label)), found.get(task("bench", recipe, label))
        if quant is not None:
            before = sent[-recipe.keep_files :][:1] if len(sent) >= recipe.keep_files else ()
            found[quant.name] = replace(quant, after=(*quant.after, *before, *made, *quiet))
            made = (quant.name,)  # which may copy tensors of a file that is let go before the next begins
        if bench is not None and not only:  # nothing else is at work meanwhile
            found[bench.name] = replace(bench, after=(*bench.after, *sent[-1:]))
            quiet = (bench.name,)
        edges = (
            Edge(task("split", recipe, label), ALL, "files/"),
            Edge(task("verify", recipe, label), "verify.json", "verify.json"),
        )
        name = task("publish", recipe, label)
        after = (*sent[-1:], *quiet)
        found[name] = Node(name, STEPS["publish"], {"place": place.name}, edges, where=where, after=after)
        sent.append(name)
    card = task("card", recipe)
    found[card] = replace(found[card], after=(*found[card].after, *sent))
    return {node.name: node for node in _sorted(found)}, sent


def forget(nodes: Mapping[str, Node], space: Workspace, lost: Collection[str]) -> None:
    """What was published, by digest, is nowhere any more: it is made and sent again by the next build."""
    for node in nodes.values():
        if node.step is STEPS["publish"]:
            inputs = upstream(node, nodes, space.outputs) or {}
            if not {file.sha256 for file in inputs.values()}.isdisjoint(lost):
                space.store.drop(key_of(node, inputs))
    for sha256 in lost:
        space.store.lose(sha256)


def _sorted(nodes: Mapping[str, Node]) -> Iterator[Node]:
    """Each after those that it waits for."""
    done: set[str] = set()

    def visit(node: Node) -> Iterator[Node]:
        if node.name not in done:
            done.add(node.name)
            for name in (*node.after, *(edge.node for edge in node.edges)):
                yield from visit(nodes[name])
            yield node

    for node in nodes.values():
        yield from visit(node)
