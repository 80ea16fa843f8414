"""What a build lets go while it runs: what it has published, and what its last reader has read."""

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from quantmill.build.graph import ALL, Node
from quantmill.build.node_key import Facts
from quantmill.build.workspace import Workspace
from quantmill.steps import STEPS

LARGE = (".gguf", ".safetensors", ".npy", ".dat")  # the endings of what is let go
# What may be let go, by the tasks that bring it about; files of the release are those that are published.
KINDS: Mapping[str, str] = {"checkpoint": "download:", "base": "convert:", "evaluation": "evaluate:", "release": ""}


@dataclass
class Clearing:
    """Lets go what is one of the kinds `goes`, when no task of the build is going to read it any more.

    `wanted`: the tasks of the build
    `order`: the tasks that publish, in order
    `keep`: how many files of the release may be here while another is made, with that one
    """

    nodes: Mapping[str, Node]
    wanted: Collection[str]
    goes: Collection[str]
    order: Sequence[str] = ()
    keep: int = 1
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
            last = bool(self.order) and node.name == self.order[-1]  # until then, the next may copy tensors of this one
            self._sweep(space, len(self.order) if last else self._place(node))

    def _place(self, node: Node) -> int:
        """Before which of the published files none is needed for a task's own sake."""
        name = f"publish:{node.name.partition(':')[2]}"
        if name in self.order:
            return max(0, self.order.index(name) - self.keep + 1)
        return len(self.order) if self.order and self.order[-1] in self._done else 0

    def _sweep(self, space: Workspace, place: int) -> None:
        done = self._done | space.same
        makers = [name for name in self._makers(done, place) if name in done]
        if makers:
            needed = self._needed(space, done)
            for name in dict.fromkeys(makers):
                pointed = space.pointed(self.nodes[name]) or {}
                self._let_go(space, {n: f for n, f in pointed.items() if f["sha256"] not in needed})

    def _makers(self, done: Collection[str], place: int) -> Iterator[str]:
        """The tasks whose outputs may go."""
        prefixes = tuple(KINDS[kind] for kind in self.goes if KINDS[kind])
        yield from (name for name in self.wanted if name.startswith(prefixes))
        for name in self.order[:place] if "release" in self.goes else ():
            if name in done:
                for split in (edge.node for edge in self.nodes[name].edges if edge.output == ALL):
                    yield from (split, *(edge.node for edge in self.nodes[split].edges))

    def _needed(self, space: Workspace, done: Collection[str]) -> set[str]:
        """The digests of what tasks of this build are yet to read, of the base, and of what a release folder holds."""
        found: set[str] = set()
        for node in (self.nodes[name] for name in self.wanted):
            stays = node.step is STEPS["index"] and "base" not in self.goes  # index reads the base
            stays |= node.step.lays_out and not self.order
            if stays or (node.name not in done and node.step.reads_bytes):
                for edge in node.edges:
                    found |= {fact["sha256"] for fact in (space.pointed(self.nodes[edge.node]) or {}).values()}
        return found

    def _let_go(self, space: Workspace, facts: Facts) -> None:
        for name, artifact in space.artifacts(facts).items():
            if name.endswith(LARGE) and space.store.has(artifact):
                if space.store.remote:  # a record that waits to be sent to it names this
                    space.store.remote.offer([artifact])
                space.store.let_go(artifact)
