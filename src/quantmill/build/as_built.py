"""A build that publishes each file as soon as it is made and found right, and then lets it go.

The graph gets a task `publish` for each file, and a file waits until those before it are published, but for as many as
may be here at a time. What nothing is going to read any more goes: published files, and a checkpoint that is converted.
"""

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from quantmill.build.graph import ALL, Edge, Node, labels, task
from quantmill.build.node_key import Facts, key_of, upstream
from quantmill.build.workspace import Workspace
from quantmill.recipe.recipe import Recipe
from quantmill.steps import STEPS

LARGE = (".gguf", ".safetensors")  # the endings of what is let go


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
    where = {"hub": True, "tag": place.tag} if place.hub else {}
    for label in (label for label in labels(recipe) if not only or label in only):
        quant, bench = found.get(task("quant", recipe, label)), found.get(task("bench", recipe, label))
        if quant is not None:
            before = sent[-recipe.keep_files :][:1] if len(sent) >= recipe.keep_files else ()
            found[quant.name] = replace(quant, after=(*quant.after, *before, *quiet))
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


@dataclass
class Clearing:
    """Lets go, while a build runs, what it has published, and what its last reader has read.

    `wanted`: the tasks of the build
    `order`: the tasks that publish, in order
    `keep`: how many files of the release may be here while another is made, with that one
    """

    nodes: Mapping[str, Node]
    wanted: Collection[str]
    order: Sequence[str]
    keep: int
    _done: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, node: Node, space: Workspace) -> None:
        """A task is about to run."""
        with self._lock:
            self._sweep(space, self._place(node))

    def end(self, node: Node, space: Workspace) -> None:
        """A task has run."""
        with self._lock:
            self._done.add(node.name)
            last = node.name == self.order[-1]  # until then, the next file may copy tensors of this one
            self._sweep(space, len(self.order) if last else self._place(node))

    def _place(self, node: Node) -> int:
        """Before which of the published files none is needed for a task's own sake."""
        name = f"publish:{node.name.partition(':')[2]}"
        if name in self.order:
            return max(0, self.order.index(name) - self.keep + 1)
        return len(self.order) if self.order[-1] in self._done else 0

    def _sweep(self, space: Workspace, place: int) -> None:
        done = self._done | space.same
        gone = [name for name in self.order[:place] if name in done]
        makers = [edge.node for name in gone for edge in self.nodes[name].edges if edge.output == ALL]
        makers += [edge.node for maker in makers for edge in self.nodes[maker].edges]
        makers += [name for name in self.wanted if name.startswith("download:")]
        needed = self._needed(space, done)
        for name in dict.fromkeys(makers):
            pointed = space.pointed(self.nodes[name]) if name in done else None
            self._let_go(space, {n: f for n, f in (pointed or {}).items() if f["sha256"] not in needed})

    def _needed(self, space: Workspace, done: Collection[str]) -> set[str]:
        """The digests of what tasks of this build are yet to read, and of the base."""
        found: set[str] = set()
        for node in (self.nodes[name] for name in self.wanted):
            if node.step is STEPS["index"] or (node.name not in done and node.step.reads_bytes):  # index reads the base
                for edge in node.edges:
                    found |= {fact["sha256"] for fact in (space.pointed(self.nodes[edge.node]) or {}).values()}
        return found

    def _let_go(self, space: Workspace, facts: Facts) -> None:
        for name, artifact in space.artifacts(facts).items():
            if name.endswith(LARGE) and space.store.has(artifact):
                if space.store.remote:  # a record that waits to be sent to it names this
                    space.store.remote.offer([artifact])
                space.store.let_go(artifact)
