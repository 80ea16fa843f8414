"""Running one node of the graph against the store, and telling why it would run.

Below the build folder each node has a pointer `<recipe>/<step>[/FTYPE].json`: the deterministic `{output: {sha256,
size}}` that a task runner sees as the task's target. Beside it lies a note `.key` with the key it was made by, from
which `explain` says what moved. Beside a release's pointer, `.signed` is its signature. All are disposable: the store
is the truth.
"""

import json
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from quantmill.artifact import Artifact, Context
from quantmill.disk import parse_json, read_json, read_small, write_own
from quantmill.errors import QuantmillError, UsageError, listed
from quantmill.host import usable_threads
from quantmill.store.key import StepKey, difference
from quantmill.build.doubt import NotMadeAgain, Rejected, doubted
from quantmill.build.graph import Node, below
from quantmill.build.node_key import Facts, Outputs, facts_of, key_by_digest, key_of, promised, upstream
from quantmill.build.reading import Damaged, Reading, small
from quantmill.build.why import FIRST, why
from quantmill.build.worth import Worths
from quantmill.store.shared import Gone, Worth
from quantmill.store.remote.signature import Seal
from quantmill.steps.step import Step
from quantmill.store.local import Broken, Hit, Miss, Store
from quantmill.store.record import are_facts
from quantmill.store.remote import named_by
from quantmill.build.release_folder import Tree, published

Report = Callable[[str, str, Mapping[str, Any]], None]
TRIES = 3  # of a step whose inputs are found damaged


def silent(name: str, event: str, facts: Mapping[str, Any]) -> None:
    """The report that nobody hears."""


class Status(NamedTuple):
    """What a build would do with a node. `state`: "up to date" (nothing), "hit" (take it from the store or the shared
    one), "run", or "after" (not known before what it reads has run). `reason` is empty for "up to date"."""

    state: str
    reason: str = ""


@dataclass(frozen=True)
class Workspace:
    """Where a build happens, and how to work.

    `build`: the folder of pointers
    `release`: the folder of finished trees
    `report`: `report(node name, event, facts)` hears of what happens, and is called from any thread

    Events: "start" with a reason and what its progress counts; "hit" with the shared store's place or "";
    "progress" and "fetch" with done and total bytes; "finding" with a text; "done".
    """

    store: Store
    build: Path
    release: Path
    threads: int
    report: Report = silent
    # Asked before a step runs here, with the node, the graph and why: whether it has now been run elsewhere, so that
    # the store has it.
    elsewhere: Callable[[Node, Mapping[str, Node], str], bool] | None = None
    check: float = 0.0  # the share of what steps make that is made again and compared
    seal: Seal = field(default_factory=Seal)  # what signs finished releases
    worths: Worths = field(default_factory=Worths)  # how long a shared store is waited for
    # For the last look of a build: the tasks that did something, with their graphs, and those found up to date.
    brought: dict[str, Mapping[str, Node]] = field(default_factory=dict)
    same: set[str] = field(default_factory=set)
    # Of the nodes that this build has found up to date, so that not every node below reads the pointer again.
    _known: dict[str, Facts] = field(default_factory=dict)
    _damages: list[int] = field(default_factory=list)  # the store's, as this build began

    def pointer(self, node: Node) -> Path:
        """The node's pointer: build/<recipe>/<step>.json, or build/<recipe>/<step>/<FTYPE>.json."""
        return Path(self.pointer_name(node))

    def pointer_name(self, node: Node) -> str:
        """The pointer's path as text, which takes a tenth of the time where there are thousands."""
        step, _, rest = node.name.partition(":")
        recipe, _, label = rest.partition("/")
        return f"{self.build}/{recipe}/{step}/{label}.json" if label else f"{self.build}/{recipe}/{step}.json"

    def outputs(self, node: Node) -> Outputs | None:
        """What the node's pointer names, None when there is no pointer."""
        facts = self.pointed(node)
        return None if facts is None else self.artifacts(facts)

    def artifacts(self, facts: Facts) -> Outputs:
        """The outputs that a pointer's JSON names, as objects of the store."""
        return {n: Artifact(self.store.object_path(f["sha256"]), f["sha256"], f["size"]) for n, f in facts.items()}

    def up_to_date(self, node: Node, nodes: Mapping[str, Node]) -> bool:
        """Whether the node's pointer is what its key promises and every object behind it is in the store, or at the
        shared store that its record was taken from. Asks no network."""
        inputs = upstream(node, nodes, lambda upstream: self._known.get(upstream.name) or self.pointed(upstream))
        if inputs is None:
            return False
        key = key_by_digest(node, {name: fact["sha256"] for name, fact in inputs.items()})
        facts = self.store.facts(key, self._written(node))
        if facts is None or not node.step.makes(facts, node.params, inputs) or not self._in_place(node, facts):
            return False
        self._known[node.name] = facts
        return True

    def _in_place(self, node: Node, facts: Facts) -> bool:
        """Whether a release's folder is what the store has for the node's key."""
        return not node.step.lays_out or ((tree := self.laid(node)).laid_out(facts) and tree.sealed())

    def pointed(self, node: Node) -> Facts | None:
        """The node's pointer as it is written, None when there is none that can be read."""
        facts = parse_json(self._written(node))
        return facts if are_facts(facts) else None

    def _written(self, node: Node) -> bytes:
        try:
            return read_small(self.pointer_name(node))
        except OSError:
            return b""

    def status(self, node: Node, nodes: Mapping[str, Node], known: dict[str, Outputs | None]) -> Status:
        """What a build would do. `known` collects the outputs of the nodes asked so far, in the graph's order. A shared
        store is asked for what is not here."""
        inputs = upstream(node, nodes, lambda upstream: known.get(upstream.name))
        if inputs is None:
            known[node.name] = None
            waiting = next(e.node for e in node.edges if known.get(e.node) is None)
            return Status("after", f"{waiting} has to run first")
        key = key_of(node, inputs)
        recorded = known[node.name] = self._recorded(node, key)
        if recorded is not None and self.pointed(node) == (facts := facts_of(recorded)) and self._in_place(node, facts):
            return Status("up to date")
        reason, remote = self._why(node, key, recorded), self.store.remote
        if recorded is not None or remote is None:
            return Status("run" if recorded is None else "hit", reason)
        if found := remote.find(key):
            known[node.name] = {n: Artifact(self.store.object_path(a), a, b) for n, (a, b) in found.outputs.items()}
            return Status("hit", f"{remote.address} has it")
        if reason == FIRST and (latest := remote.latest(node.name)):
            reason = f"{remote.address} has it but for {difference(latest, key.fields())}"
        return Status("run", reason)

    def perform(self, node: Node, nodes: Mapping[str, Node], whole: bool = False) -> None:
        """Bring the node up to date: from the store when it holds the key, or the shared store, else by running the
        step. `whole`: what the shared store has of it is gone, so that only what is here counts. What is found damaged
        is made anew, and the step run again, a few times."""
        self._heal(node, nodes)
        self._attempt(node, nodes, whole)

    def _attempt(self, node: Node, nodes: Mapping[str, Node], whole: bool = False) -> None:
        asked = False
        for left in reversed(range(TRIES)):
            try:
                self._bring_about(node, nodes, whole)
                return
            except Rejected as error:
                if asked or not left or not (asked := self._make_here(node, nodes, error)):
                    raise
            except Damaged as damaged:
                if not left:
                    raise QuantmillError(f"{node.name}: {damaged}, {TRIES} times; look after the disk") from None
                self.report(node.name, "finding", {"text": f"{damaged}: it is made anew"})
                self._heal(node, nodes)

    def _recorded(self, node: Node, key: StepKey, whole: bool = False) -> Outputs | None:
        """What the store has for the node's key, None where these are not the outputs that its step makes."""
        outputs = self.store.record(key, whole)
        return outputs if outputs is not None and _right(node, key)(outputs) else None

    def _heal(self, node: Node, nodes: Mapping[str, Node]) -> None:
        """Where something was found damaged or revoked since this build began: bring about again all that the node
        stands on."""
        if not self._damages:
            self._damages.append(self.store.damages())
            if self.store.remote:
                self.store.remote.refresh()  # what was revoked goes before something is made of it
        damages = self.store.damages()
        if damages != self._damages[0]:
            self._rebuild(node, nodes)

    def _rebuild(self, node: Node, nodes: Mapping[str, Node], here: Collection[str] = ()) -> None:
        """Bring about again all that the node stands on; those in `here` without the shared store."""
        self._known.clear()
        for name, above in below([node.name], nodes).items():
            if name != node.name and not self.up_to_date(above, nodes):
                self._attempt(above, nodes, name in here)

    def _make_here(self, node: Node, nodes: Mapping[str, Node], error: Rejected) -> bool:
        """What the node refuses is made here, where the shared store gave it: whether it did."""
        keys = doubted(node, nodes, self.outputs, self.store)
        if not keys or self.store.remote is None:  # from nowhere else
            return False
        text = f"{error}: {self.store.remote.address} gave it, so that it is made here: {listed([*keys])}"
        self.report(node.name, "finding", {"text": text})
        for key in keys.values():
            self.store.drop(key)
        self._rebuild(node, nodes, keys)
        return True

    def _bring_about(self, node: Node, nodes: Mapping[str, Node], whole: bool) -> None:
        inputs = upstream(node, nodes, self.outputs)
        if inputs is None:
            lacks = f"what it reads is not built, or a pointer below {self.build} cannot be read"
            raise QuantmillError(f"{node.name}: {lacks}; build the release, or those tasks first")
        self.store.add_root(self.build, self.release)
        key = key_of(node, inputs)
        recorded = self._recorded(node, key)
        reason = self._why(node, key, recorded)
        away = recorded is None and not whole and self._elsewhere(node, nodes, key, reason)

        def waits(holder: str) -> None:
            self.report(node.name, "finding", {"text": f"{node.name} waits for {holder}, which computes it"})

        resumes, right, worth = node.step.resumes(node.where), _right(node, key), self._worth(node, nodes)
        with self.store.lookup(key, resumes, whole, node.name, waits, right, worth) as found:
            match found:
                case Hit(outputs, at):
                    if not away:
                        self.report(node.name, "hit", {"reason": reason, "place": at})
                case Miss(slot):
                    self._bring_inputs(node, nodes, inputs)
                    self.report(node.name, "start", started(node, reason))
                    references = self._run(node, inputs, slot.folder)
                    try:
                        outputs = slot.commit(references or {}, promised(node))
                    except Broken as broken:
                        raise Damaged(str(broken)) from None
                    if not right(outputs):
                        raise QuantmillError(f"{node.name}: wrote {listed([*outputs])}, which is not what it is to write")
                    self.borrow(node.step, outputs)
        try:
            if node.step.lays_out or node.step.findings:
                self._bring(node, outputs.values(), worth)
        except Gone as gone:
            self._again(node, nodes, gone)
            return
        if node.step.lays_out:
            self._bring_inputs(node, nodes, inputs)
            try:
                self.laid(node).lay_out(inputs, outputs, self.pointer(node).with_suffix(".lock"))
            except Gone as gone:
                raise Damaged(str(gone)) from None
            if count := len(inputs) - len(self._here(inputs, node)):
                text = f"{count} of its files are not here: they are where they were published"
                self.report(node.name, "finding", {"text": text})
        if node.step.findings in outputs:
            told = read_json(outputs[node.step.findings].path)
            if not isinstance(told, dict):  # damaged before it was hashed
                self.store.drop(key)
                raise Damaged(f"{node.step.findings} cannot be read")
            for text in told.get("findings", ()):
                self.report(node.name, "finding", {"text": text})
        self.write_pointer(node, facts_of(outputs))
        write_own(self.pointer(node).with_suffix(".key"), _json(key.fields()))
        self._known.pop(node.name, None)
        self.report(node.name, "done", {"bytes": sum(a.size for a in outputs.values())})

    def _run(self, node: Node, inputs: Outputs, folder: Path) -> Mapping[str, Artifact] | None:
        """Run the node's step; Damaged when it read something that is, whatever came of it."""
        stored = {**self._held(node), **inputs}
        read = stored if node.step.reads_bytes else small(self._here(stored, node))
        reading = Reading(self.store, read, node.step.resumes(node.where))
        context = Context(
            self.threads,
            lambda done, total: self.report(node.name, "progress", {"done": done, "total": total}),
            reading.find,
            self.store.deliver,
        )

        def run() -> Mapping[str, Artifact] | None:
            made = node.step.run({**node.files, **stored}, {**node.params, **node.where}, folder, context)
            if self.check and node.step.recheck:
                from quantmill.build.sampling import check

                check(self.check, node, inputs, folder, self.threads)
            return made

        try:
            return reading.during(run)
        except QuantmillError as error:
            if node.step.judges and not isinstance(error, UsageError):
                raise Rejected(str(error)) from error
            raise
        except Damaged:
            shutil.rmtree(folder, ignore_errors=True)  # also what a step would go on with
            raise

    def _bring(self, node: Node, artifacts: Iterable[Artifact], worth: Worth) -> None:
        self.store.bring(
            artifacts, lambda done, total: self.report(node.name, "fetch", {"done": done, "total": total}), worth
        )

    def _worth(self, node: Node, nodes: Mapping[str, Node]) -> Worth:
        """What making a node's outputs would take here; asked only where a shared store is slow."""
        return lambda: self.worths.seconds(node, nodes, lambda one: self.recorded(one, nodes, True), self.threads)

    def _bring_inputs(self, node: Node, nodes: Mapping[str, Node], inputs: Outputs) -> None:
        """Have here what the node reads. What the shared store does not give any more is made again."""
        for edge in node.edges:
            try:
                wanted = upstream(replace(node, edges=(edge,)), nodes, self.outputs) or {}
                read = wanted if node.step.reads_bytes else self._here(wanted, node)
                self._bring(node, read.values(), self._worth(nodes[edge.node], nodes))
            except Gone as gone:
                self._again(nodes[edge.node], nodes, gone)
        found = upstream(node, nodes, self.outputs)
        if found is None:
            raise QuantmillError(f"{node.name}: a pointer below {self.build} cannot be read; run again")
        if found != inputs:
            raise Damaged(f"what {node.name} reads was made again with other bytes")

    def _here(self, inputs: Outputs, node: Node) -> Outputs:
        """Those that were not let go; of the others, a step that reads no bytes needs names and digests alone, and a
        release what its recipe did not publish."""
        away = self.laid(node).away if node.step.lays_out else self.store.is_let_go
        return {name: found for name, found in inputs.items() if not away(found.sha256)}

    def _again(self, node: Node, nodes: Mapping[str, Node], gone: Gone) -> None:
        self.report(node.name, "finding", {"text": f"{gone}: {node.name} is made again here"})
        try:
            self.perform(node, nodes, whole=True)
        except NotMadeAgain:
            raise
        except QuantmillError as error:
            raise NotMadeAgain(node.name, error) from error

    def _elsewhere(self, node: Node, nodes: Mapping[str, Node], key: StepKey, reason: str) -> bool:
        if self.elsewhere is None or (self.store.remote and self.store.remote.find(key)):
            return False
        return self.elsewhere(node, nodes, reason)

    def write_pointer(self, node: Node, facts: Facts) -> None:
        """Say what the node's outputs are."""
        write_own(self.pointer(node), _json(facts))

    def recorded(self, node: Node, nodes: Mapping[str, Node], whole: bool = False) -> bool:
        """Whether the store has what the node's key names, as far as what it reads is built; `whole`: all of it here,
        not at the shared store."""
        inputs = upstream(node, nodes, self.outputs)
        return inputs is not None and self._recorded(node, key_of(node, inputs), whole) is not None

    def borrow(self, step: Step, outputs: Outputs) -> None:
        """Remember what outputs of the step hold that other steps may copy: quantized tensors, an imatrix's sums."""
        for name, listing in step.lends.items():
            if name in outputs and listing in outputs:
                self.store.hints.add_spans(outputs[name], json.loads(outputs[listing].path.read_bytes()))

    def _held(self, node: Node) -> dict[str, Artifact]:
        """Files that the params name by digest and the store has: of another commit or recipe, or of a killed run."""
        facts = node.params["files"] if node.step.holds else {}
        files = {n: Artifact(self.store.object_path(f["sha256"]), f["sha256"], f["size"]) for n, f in facts.items()}
        self.store.keep(files.values())
        return {f"held/{name}": artifact for name, artifact in files.items() if self.store.has(artifact)}

    def _why(self, node: Node, key: StepKey, recorded: Outputs | None) -> str:
        note, tree = self.pointer(node).with_suffix(".key"), self.laid(node) if node.step.lays_out else None
        return why(note, key, self.outputs(node), recorded, self.store, tree)

    def tree(self, node: Node) -> Path:
        """The folder of a release node's finished files."""
        return self.release / node.name.partition(":")[2]

    def laid(self, node: Node) -> Tree:
        """That folder, as what is in it is to be seen to."""
        pointer = self.pointer(node)
        away = published(self.store, pointer.parent)
        return Tree(self.tree(node), self.store, self.seal, pointer.with_suffix(".signed"), away)

    def remove_tree(self, node: Node) -> None:
        """Remove the release folder's files that are ours, and the folders that this leaves empty."""
        self.laid(node).remove()


def _right(node: Node, key: StepKey) -> Callable[[Collection[str]], bool]:
    return lambda names: node.step.makes(names, key.params, key.inputs)


def started(node: Node, reason: str) -> dict[str, Any]:
    """The facts of a "start" event."""
    return {"reason": reason, "counts": node.step.counts}


def _json(data: Any) -> bytes:
    return (json.dumps(data, sort_keys=True, indent=1) + "\n").encode()
