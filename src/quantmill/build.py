"""Running one node of the graph against the store, and telling why it would run.

Below the build folder each node has a pointer `<recipe>/<step>[/FTYPE].json`, the deterministic `{output: {sha256,
size}}` that a task runner sees as the task's target, and beside it a note `.key` with the key it was made by, from
which `explain` says what moved. Both are disposable: the store is the truth.
"""

import importlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantmill.artifact import Artifact, Context
from quantmill.errors import QuantmillError
from quantmill.key import StepKey, difference
from quantmill.plan import ALL, Node
from quantmill.steps import VERSIONS
from quantmill.store import Hit, Miss, Store, place, write_atomic

Outputs = Mapping[str, Artifact]
FIRST = "not built here yet"


class MissingOutput(QuantmillError):
    """A node's input was not among its upstream's outputs."""

    def __init__(self, node: str, upstream: str, output: str) -> None:
        super().__init__(f"{node}: {upstream} has no output {output}; this is a fault of quantmill, please report it")


@dataclass(frozen=True)
class Status:
    """What a build would do with a node. `state`: "up to date" (nothing), "hit" (take it from the store), "run", or
    "after" (not known before what it reads has run). `reason` is empty for "up to date"."""

    state: str
    reason: str = ""


@dataclass(frozen=True)
class Workspace:
    """Where a build happens: the store, `build` for pointers, `release` for finished trees, and how to work.

    `report(node name, event, facts)` hears of what happens: "start" with a reason, "hit", "progress" with done and
    total bytes, "finding" with a text, "done". It is called from any thread.
    """

    store: Store
    build: Path
    release: Path
    threads: int
    report: Callable[[str, str, Mapping[str, Any]], None] = lambda name, event, facts: None

    def pointer(self, node: Node) -> Path:
        """The node's pointer: build/<recipe>/<step>.json, or build/<recipe>/<step>/<FTYPE>.json."""
        step, _, rest = node.name.partition(":")
        recipe, _, label = rest.partition("/")
        return self.build / recipe / (f"{step}/{label}.json" if label else f"{step}.json")

    def outputs(self, node: Node) -> Outputs | None:
        """What the node's pointer names, None when there is no pointer."""
        try:
            data = json.loads(self.pointer(node).read_bytes())
            return {n: Artifact(self.store.object_path(a["sha256"]), a["sha256"], a["size"]) for n, a in data.items()}
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def up_to_date(self, node: Node, nodes: Mapping[str, Node]) -> bool:
        """Whether the node's pointer is what its key promises and every object behind it is in the store."""
        inputs = self._upstream(node, nodes, self.outputs)
        return inputs is not None and self._reason(node, key_of(node, inputs)) == ""

    def status(self, node: Node, nodes: Mapping[str, Node], known: dict[str, Outputs | None]) -> Status:
        """What a build would do. `known` collects the outputs of the nodes asked so far, in the graph's order."""
        inputs = self._upstream(node, nodes, lambda upstream: known.get(upstream.name))
        if inputs is None:
            known[node.name] = None
            waiting = next(e.node for e in node.edges if known.get(e.node) is None)
            return Status("after", f"{waiting} has to run first")
        key = key_of(node, inputs)
        recorded = known[node.name] = self.store.record(key)
        reason = self._reason(node, key)
        if recorded is None:
            return Status("run", reason or "not in the store")
        return Status("hit", reason) if reason else Status("up to date")

    def perform(self, node: Node, nodes: Mapping[str, Node]) -> None:
        """Bring the node up to date: from the store when it holds the key, else by running the step."""
        inputs = self._upstream(node, nodes, self.outputs)
        if inputs is None:
            raise QuantmillError(f"{node.name}: what it reads is not built; build the release, or those tasks first")
        key = key_of(node, inputs)
        reason = self._reason(node, key)
        with self.store.lookup(key, resume=node.step == "download") as found:
            match found:
                case Hit(outputs):
                    self.report(node.name, "hit", {"reason": reason})
                case Miss(slot):
                    self.report(node.name, "start", {"reason": reason})
                    step = importlib.import_module(f"quantmill.steps.{node.step}")
                    context = Context(
                        self.threads,
                        lambda done, total: self.report(node.name, "progress", {"done": done, "total": total}),
                        self.store.find_span,
                    )
                    references = step.run({**node.files, **inputs}, {**node.params, **node.where}, slot.folder, context)
                    outputs = slot.commit(references or {})
                    if node.step == "quant":
                        spans = json.loads(outputs["tensors.json"].path.read_bytes())
                        self.store.add_spans(outputs["model.gguf"], spans)
        if node.step == "release":
            self._lay_out(node, inputs, outputs)
        elif node.step == "preflight":
            for text in json.loads(outputs["preflight.json"].path.read_bytes())["findings"]:
                self.report(node.name, "finding", {"text": text})
        pointer = self.pointer(node)
        write_atomic(pointer, _json({n: {"sha256": a.sha256, "size": a.size} for n, a in outputs.items()}))
        write_atomic(pointer.with_suffix(".key"), _json(key.fields()))
        self.report(node.name, "done", {"bytes": sum(a.size for a in outputs.values())})

    def _upstream(
        self, node: Node, nodes: Mapping[str, Node], outputs_of: Callable[[Node], Outputs | None]
    ) -> dict[str, Artifact] | None:
        inputs: dict[str, Artifact] = {}
        for edge in node.edges:
            outputs = outputs_of(nodes[edge.node])
            if outputs is None:
                return None
            if edge.output == ALL:
                inputs |= {edge.name + name: artifact for name, artifact in outputs.items()}
            elif edge.output in outputs:
                inputs[edge.name] = outputs[edge.output]
            else:
                raise MissingOutput(node.name, edge.node, edge.output)
        return inputs

    def _reason(self, node: Node, key: StepKey) -> str:
        """Why the node is not up to date; empty when it is."""
        try:
            old = json.loads(self.pointer(node).with_suffix(".key").read_bytes())
        except (FileNotFoundError, ValueError):
            return FIRST
        if moved := difference(old, key.fields()):
            return moved
        outputs = self.outputs(node)
        if outputs is None:
            return "its pointer is gone"
        if missing := sorted(name for name, artifact in outputs.items() if not self.store.has(artifact)):
            return f"{missing[0]} is gone from the store"
        if node.step == "release" and not self._laid_out(node, outputs):
            return "files of the release folder are gone or changed"
        return ""

    def tree(self, node: Node) -> Path:
        """The folder of a release node's finished files."""
        return self.release / node.name.partition(":")[2]

    def _lay_out(self, node: Node, inputs: Outputs, outputs: Outputs) -> None:
        """Make the release folder hold the release's files and none that an earlier release of ours left."""
        tree = self.tree(node)
        files = {path: inputs[name] for path, name in _manifest(outputs).items()} | dict(outputs)
        before = _read_listing(tree / "release.json")
        for path, artifact in sorted(files.items()):
            if not _same(tree / path, artifact):
                place(artifact.path, tree / path)
        for path in sorted(set(before) - set(files)):
            (tree / path).unlink(missing_ok=True)
            if (tree / path).parent != tree:
                _remove_empty((tree / path).parent)

    def remove_tree(self, node: Node) -> None:
        """Remove the release folder's files that are ours, and the folders that this leaves empty."""
        tree = self.tree(node)
        for path in sorted({*_read_listing(tree / "release.json"), "SHA256SUMS", "release.json"}):
            (tree / path).unlink(missing_ok=True)
            if (tree / path).parent != tree:
                _remove_empty((tree / path).parent)
        _remove_empty(tree)

    def _laid_out(self, node: Node, outputs: Outputs) -> bool:
        tree = self.tree(node)
        listing = json.loads(outputs["release.json"].path.read_bytes())["files"]
        return all(_size(tree / f["name"]) == f["size"] for f in listing) and all(
            _same(tree / name, artifact) for name, artifact in outputs.items()
        )


def key_of(node: Node, inputs: Outputs) -> StepKey:
    """The node's step key, given the artifacts of its edges."""
    digests = {name: artifact.sha256 for name, artifact in inputs.items()}
    return StepKey(node.step, VERSIONS[node.step], node.generation, node.params, digests)


def _manifest(outputs: Outputs) -> dict[str, str]:
    """Path in the release folder → name of the release step's input, as release.json lists them."""
    listing = json.loads(outputs["release.json"].path.read_bytes())["files"]
    return {entry["name"]: entry["input"] for entry in listing}


def _read_listing(path: Path) -> set[str]:
    try:
        return {entry["name"] for entry in json.loads(path.read_bytes())["files"]}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return set()


def _remove_empty(folder: Path) -> None:
    if folder.is_dir() and not os.listdir(folder):
        folder.rmdir()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return -1


def _same(path: Path, artifact: Artifact) -> bool:
    if _size(path) != artifact.size:
        return False
    if os.path.samestat(path.stat(), artifact.path.stat()):
        return True
    return artifact.size < 1 << 20 and path.read_bytes() == artifact.path.read_bytes()


def _json(data: Any) -> bytes:
    return (json.dumps(data, sort_keys=True, indent=1) + "\n").encode()
