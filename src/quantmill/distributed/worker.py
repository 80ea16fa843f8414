"""What runs on a worker: a look at what it is, and one step.

A worker's store is the folder that QUANTMILL_CACHE names there, or else the driver's, by the same path.
"""

import socket
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from quantmill import __version__
from quantmill.build.doubt import NotMadeAgain
from quantmill.build.graph import Node
from quantmill.build.node_key import Facts, upstream
from quantmill.build.opening import open_workspace
from quantmill.build.sampling import sample_of, unlike
from quantmill.build.workspace import Workspace
from quantmill.errors import QuantmillError, sentence
from quantmill.steps import STEPS, versions
from quantmill.store.descent import forget_record
from quantmill.store.shared import Gone


class StepFailed(Exception):
    """A step failed in a way that another attempt may not; one sentence."""


@dataclass(frozen=True)
class Job:
    """A node to be brought about.

    `nodes`: it and those that it reads
    `upstream`: the outputs of the latter, by name
    `lent`: steps and outputs of parts and waves, of which it may copy
    `root`: the driver's folder, from which local files of the nodes are named where they are below it
    `store`: the driver's store
    """

    node: Node
    nodes: Mapping[str, Node]
    upstream: Mapping[str, Facts]
    lent: tuple[tuple[str, Facts], ...]
    root: str
    store: str


@dataclass(frozen=True)
class Done:
    """What came of a job: the node's outputs, or in `error` one sentence; `lacks`: that what it reads of this node is
    not to be had here; `ran`: that its step was run; `differs`: what came out otherwise than another worker made it."""

    worker: str
    facts: Facts
    findings: tuple[str, ...]
    error: str = ""
    lacks: str = ""
    host: str = ""
    ran: bool = False
    differs: tuple[str, ...] = ()
    exit_code: int = 0  # of the error
    conflicts: tuple[tuple[str, str], ...] = ()  # at the shared store, by record

    @property
    def where(self) -> str:
        """The worker, and its machine."""
        return f"{self.worker} ({self.host})" if self.host else self.worker


@dataclass(frozen=True)
class Seen:
    """What a worker is. `store` is the same for two workers that share one; `shared`: it is the driver's too."""

    version: str
    steps: Mapping[str, int]
    store: str
    folder: str
    shared: bool


def look(root: str, store: str, token: str) -> Seen:
    """What this worker is; `token` is a file that the driver has just put into its store."""
    space = _workspace(root, store, 1)
    folder = space.store.root
    folder.mkdir(parents=True, exist_ok=True)
    stat = folder.stat()
    place = f"{socket.gethostname()} {stat.st_dev} {stat.st_ino}"
    shared = (folder / token).is_file()
    return Seen(__version__, versions(), place, str(folder), shared)


def run(job: Job) -> Done:
    """Bring the job's node about, here: from this worker's stores, or by running its step."""
    from distributed import get_worker

    worker = get_worker()
    findings: list[str] = []
    begun: list[str] = []

    def report(name: str, event: str, facts: Mapping[str, Any]) -> None:
        if event == "finding":
            findings.append(facts["text"])
        elif event == "start" and name == job.node.name:
            begun.append(name)

    with tempfile.TemporaryDirectory(prefix="quantmill-") as folder:
        space = replace(
            _workspace(job.root, job.store, worker.state.nthreads),
            build=Path(folder),
            report=report,
        )
        try:
            facts = _perform(job, space)
        except QuantmillError as error:
            lacks = error.node if isinstance(error, NotMadeAgain) else ""
            return Done(worker.address, {}, (), str(error), lacks, exit_code=error.exit_code)
        except OSError as error:
            raise StepFailed(sentence(error)) from None
        conflicts = tuple(space.store.remote.conflicts.items()) if space.store.remote else ()
    host = socket.gethostname()
    return Done(worker.address, facts, tuple(findings), host=host, ran=bool(begun), conflicts=conflicts)


def check(job: Job, made: Facts, share: float) -> Done:
    """Make a sample of what another worker made again, and compare."""
    from distributed import get_worker

    worker = get_worker()
    with tempfile.TemporaryDirectory(prefix="quantmill-") as folder:
        space = replace(_workspace(job.root, job.store, worker.state.nthreads), build=Path(folder))
        nodes = _pointed(job, space)
        inputs = upstream(job.node, nodes, space.outputs) or {}
        files = space.artifacts(made)
        try:
            space.store.bring([*inputs.values(), *files.values()])
            work = space.store.root / "work"
            work.mkdir(parents=True, exist_ok=True)
            paths = {name: file.path for name, file in files.items()}
            found = unlike(job.node, inputs, paths, work, space.threads, sample_of(share, job.node, inputs))
        except QuantmillError as error:
            return Done(worker.address, {}, (), str(error))
        except OSError as error:
            raise StepFailed(sentence(error)) from None
    return Done(worker.address, made, (), host=socket.gethostname(), differs=tuple(found))


def forget(root: str, store: str, digest: str) -> None:
    """Forget the result of a key, and what was made of it, here and where it was sent."""
    found = _workspace(root, store, 1).store
    gone = forget_record(found.root, digest, lambda outputs: True) or []
    if found.remote:
        found.remote.withdraw([digest, *gone])
        found.remote.flush()


def _perform(job: Job, space: Workspace) -> Facts:
    nodes = _pointed(job, space)
    for step, facts in job.lent:
        outputs = space.artifacts(facts)
        with suppress(Gone):  # it is computed again
            space.store.bring(outputs.values())
            space.borrow(STEPS[step], outputs)
    space.perform(job.node, nodes)
    if space.store.remote:
        space.store.remote.flush()  # whoever reads this next may have only the shared store
    return space.pointed(job.node) or {}


def _pointed(job: Job, space: Workspace) -> dict[str, Node]:
    """The job's nodes, with pointers to what is made of them."""
    nodes = {name: _found(node, _root(job.root)) for name, node in job.nodes.items()}
    for name, facts in job.upstream.items():
        space.write_pointer(nodes[name], facts)
    return nodes


def _workspace(root: str, store: str, threads: int) -> Workspace:
    return open_workspace(_root(root), threads, Path(store))


def _root(root: str) -> Path:
    """The driver's folder, where this machine has it, else the worker's own: it says which store is shared."""
    return Path(root) if Path(root).is_dir() else Path.cwd()


def _found(node: Node, root: Path) -> Node:
    """The node with its local files as they are named here."""
    return replace(node, files={n: file._replace(path=root / file.path) for n, file in node.files.items()})
