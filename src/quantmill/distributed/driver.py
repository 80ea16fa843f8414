"""The driver of a distributed build: doit's tasks as always, but steps run on workers."""

import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from distributed import Client, Security

from quantmill.artifact import Artifact
from quantmill.build import doit_tasks
from quantmill.build.doubt import Rejected
from quantmill.build.graph import Node, below, graph
from quantmill.build.node_key import Facts, key_by_digest, upstream
from quantmill.build.sampling import Differs
from quantmill.build.workspace import Workspace, started
from quantmill.distributed import waves
from quantmill.distributed.local_cluster import local_cluster
from quantmill.distributed.parts import PARTS_FROM, Part, cut
from quantmill.distributed.worker import Done, Job, check, forget
from quantmill.distributed.worker_pool import Pool
from quantmill.errors import QuantmillError, UsageError, listed
from quantmill.forecast import estimates
from quantmill.forecast.base_file import Description, Undescribed, describe
from quantmill.forecast.costs import needs, shareable
from quantmill.forecast.files import file_of
from quantmill.host import usable_threads
from quantmill.recipe.lock import Lock, current
from quantmill.recipe.recipe import Recipe, load

CONNECT_SECONDS = 30
BYTES_A_SECOND = 1e9  # that a step reads, checks and writes: a guess by which those that wait for a worker are ordered
LOUD = ("finding", "progress", "fetch")
TASKS = 128  # that doit keeps going at a time; most of them wait for a worker or for parts


Lent = tuple[str, Facts]  # a step, and outputs of it that others copy


@dataclass(frozen=True)
class Cluster:
    """Where the workers are.

    `scheduler`: the scheduler that has them; None: they are processes on this machine
    `workers`: how many processes, on this machine
    `threads`: threads of each process
    `tls_ca`: a PEM file, like the next two, for a scheduler that asks for TLS
    `tls_cert`: a PEM file
    `tls_key`: a PEM file
    `insecure`: the scheduler may be one without TLS
    """

    scheduler: str | None = None
    workers: int = 2
    threads: int | None = None
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    insecure: bool = False


def build(
    path: Path,
    root: Path,
    only: list[str],
    locked: bool,
    cluster: Cluster,
    parts_from: int = PARTS_FROM,
    check: float = 0.0,
) -> int:
    """Build one recipe on a cluster; the exit code of the build. `check`: the share of what
    steps make that another worker makes again and compares."""
    space, listener = doit_tasks.workspace(root, estimate=estimates)
    space = replace(space, check=check)
    recipe = load(path)
    wanted = doit_tasks.wanted(recipe, only)
    lock = current(recipe, locked, space.store.hints.digest_of)
    space.worths.know(recipe, lock)
    recipe_nodes = graph(recipe, lock)
    with (
        connect(cluster) as client,
        Pool(client, root.absolute(), space.store.root.absolute(), bool(space.store.remote)) as pool,
    ):
        spread = _Spread(pool, space, root.absolute(), recipe, lock, below(wanted, recipe_nodes), parts_from)
        with spread:
            return doit_tasks.run(recipe_nodes, replace(space, elsewhere=spread.run), listener, root, wanted, TASKS)


@contextmanager
def connect(cluster: Cluster) -> Iterator[Client]:
    """A client of the cluster; UsageError where there is none."""
    for name in ("distributed", "distributed.worker", "distributed.scheduler", "distributed.nanny"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # the build says what matters of it
    if cluster.scheduler is None:
        threads = cluster.threads or max(1, usable_threads() // cluster.workers)
        with local_cluster(cluster.workers, threads) as local, Client(local) as client:
            yield client
        return
    if not (cluster.insecure or cluster.scheduler.startswith("tls://")):
        raise UsageError(
            f"{cluster.scheduler}: whoever reaches a scheduler without TLS can run code on its workers; give one at "
            "tls://, with --tls-ca, --tls-cert and --tls-key, or add --insecure"
        )
    security = None
    if cluster.tls_ca or cluster.tls_cert or cluster.tls_key:
        files = {"tls_ca_file": cluster.tls_ca, "tls_client_cert": cluster.tls_cert, "tls_client_key": cluster.tls_key}
        given = {key: str(path) for key, path in files.items() if path}
        security = Security(require_encryption=True, **given)
    try:
        client = Client(cluster.scheduler, security=security, timeout=CONNECT_SECONDS)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise UsageError(f"{cluster.scheduler}: there is no Dask scheduler that answers: {error}") from None
    with client:
        yield client


def nothing() -> None:
    """For a step that has been told of."""


class Lacking(QuantmillError):
    """A worker cannot have what a wave reads."""


class _Spread:
    """What a workspace asks when its store has no record of a step: it is run on a worker."""

    def __init__(
        self,
        pool: Pool,
        space: Workspace,
        root: Path,
        recipe: Recipe,
        lock: Lock,
        nodes: Mapping[str, Node],
        parts_from: int,
    ) -> None:
        self._pool, self._space, self._root = pool, space, root
        self._recipe, self._lock, self._nodes, self._parts_from = recipe, lock, nodes, parts_from
        self._once, self._healing = threading.Lock(), threading.Lock()
        self._made: dict[str, Facts] = {}  # of waves, which have no pointers
        self._offered: set[str] = set()  # digests of objects that workers find at the shared store
        self._parts: list[tuple[Part, Future[Done]]] | None = None
        self._rest: Mapping[str, float] = {}
        self._base: Description | None = None
        self._threads = ThreadPoolExecutor(1)

    def __enter__(self) -> "_Spread":
        return self

    def __exit__(self, *error: object) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)  # those that wait end with the client

    def run(self, node: Node, nodes: Mapping[str, Node], reason: str) -> bool:
        """Run the node's step on a worker; False when it has to run here. Raises QuantmillError."""
        if node.files or node.step.here:
            return False
        begun: Callable[[], None] = partial(self._space.report, node.name, "start", started(node, reason))
        lent = self._lent(node) if node.is_cut else ()
        if node.step.divides == "text":
            begun, lent = nothing, self._summed(node, nodes, begun)
        done = self._send(node, nodes, lent, begun=begun)
        for text in done.findings if not node.step.findings else ():
            self._space.report(node.name, "finding", {"text": text})
        if done.lacks:  # again and again: the shared store gives them less than this machine has
            with self._healing:
                self._quiet().perform(node, nodes)
        return True

    def _send(
        self,
        node: Node,
        nodes: Mapping[str, Node],
        lent: tuple[Lent, ...] = (),
        urgency: float | None = None,
        begun: Callable[[], None] = nothing,
    ) -> Done:
        needed = below([node.name], {**nodes, node.name: node})
        known = {
            name: facts
            for name in needed
            if name != node.name and (facts := self._made.get(name) or self._space.pointed(needed[name])) is not None
        }
        read = [fact for edge in node.edges for fact in known[edge.node].values()]
        read += [fact for _, facts in lent for fact in facts.values()]
        reads = {fact["sha256"]: fact["size"] for fact in read}
        if urgency is None:
            urgency = sum(reads.values()) / BYTES_A_SECOND + self._rest.get(node.name, 0.0)
        sent = {name: self._named(one) for name, one in needed.items()}
        job = Job(sent[node.name], sent, known, lent, str(self._root), str(self._space.store.root.absolute()))
        lacked = ""
        while True:
            self._offer(fact for edge in node.edges for fact in known[edge.node].values())
            done = self._pool.run(job, reads, needs(node, reads), urgency, begun)
            if not done.lacks or done.lacks == lacked:
                break
            lacked = done.lacks
            self._heal(node, needed[lacked], needed, done.error)
            begun = nothing
        if done.error and not done.lacks:
            of_work = Rejected if node.step.judges else QuantmillError
            raise (UsageError if done.exit_code == UsageError.exit_code else of_work)(done.error)
        if self._space.store.remote:
            self._space.store.remote.conflicts.update(done.conflicts)
        if done.ran and self._space.check and node.step.recheck:
            self._check(job, done, reads, urgency)
        return done

    def _check(self, job: Job, done: Done, reads: Mapping[str, int], urgency: float) -> None:
        """Have another worker make a sample of a step's output again; QuantmillError where that comes out otherwise,
        and then the output is forgotten."""
        node, share = job.node, self._space.check
        call = partial(check, made=done.facts, share=share)
        reads = {**reads, **{fact["sha256"]: fact["size"] for fact in done.facts.values()}}
        again = self._pool.run(job, reads, needs(node, reads), urgency, nothing, call, avoid=done.worker)
        if again.error:
            self._space.report(node.name, "finding", {"text": f"{node.name} was not checked: {again.error}"})
        if not again.differs:
            return
        inputs = upstream(node, job.nodes, lambda above: job.upstream.get(above.name)) or {}
        digest = key_by_digest(node, {name: fact["sha256"] for name, fact in inputs.items()}).digest()
        forget(str(self._root), str(self._space.store.root.absolute()), digest)
        self._pool.forget(done.worker, digest)
        raise Differs(
            f"{listed(again.differs)} came out otherwise on the worker {again.where} than on {done.where}: one of them "
            "computes wrongly; test their memory and cores, or leave one out. The result is forgotten"
        )

    def _named(self, node: Node) -> Node:
        """The node with its local files named from the project's folder, where they are below it: a worker may have
        that elsewhere."""
        files = {name: Path(os.path.abspath(file.path)) for name, file in node.files.items()}
        return replace(
            node,
            files={
                name: node.files[name]._replace(path=path.relative_to(root) if path.is_relative_to(root) else path)
                for root in [Path(os.path.abspath(self._root))]
                for name, path in files.items()
            },
        )

    def _offer(self, facts: Iterable[Mapping[str, Any]], again: bool = False) -> None:
        """Have what this machine made at the shared store, before a worker with a store of its own looks for it there.
        Else it is sent some time behind the build, or was made when there was no shared store."""
        store = self._space.store
        if store.remote is None or not self._pool.apart:
            return
        new = {fact["sha256"]: fact["size"] for fact in facts if again or fact["sha256"] not in self._offered}
        artifacts = (Artifact(store.object_path(digest), digest, size) for digest, size in new.items())
        store.remote.offer([artifact for artifact in artifacts if store.has(artifact)], again)
        self._offered |= new.keys()

    def _heal(self, reader: Node, node: Node, nodes: Mapping[str, Node], why: str) -> None:
        """Give workers anew what they can neither fetch nor make."""
        with self._healing:
            text = f"{node.name} is sent again: the worker that needs it for {reader.name} cannot have it: {why}"
            self._space.report(reader.name, "finding", {"text": text})
            self._quiet().perform(node, nodes, whole=True)
            self._offer((self._space.pointed(node) or {}).values(), again=True)

    def _quiet(self) -> Workspace:
        """The workspace of this machine, for work within a task that has been told of."""
        report = self._space.report
        return replace(self._space, report=lambda n, event, facts: report(n, event, facts) if event in LOUD else None)

    def _lent(self, node: Node) -> tuple[Lent, ...]:
        """Outputs of the parts that hold tensors of the node's file, when they are all there."""
        with self._once:
            if self._parts is None:
                self._parts = self._cut()
        if not self._parts or self._base is None:
            return ()
        mine = shareable(file_of(node, self._base)).keys()
        lent = ((part.node.step.name, future.result().facts) for part, future in self._parts if part.pairs & mine)
        return tuple((step, facts) for step, facts in lent if facts)

    def _summed(self, node: Node, nodes: Mapping[str, Node], begun: Callable[[], None]) -> tuple[Lent, ...]:
        """Output of the last wave of an imatrix, for which workers share its text; nothing where that is not worth
        it, or they lack what they need for it."""
        begun()
        if "toolchain" in node.params:  # llama-imatrix does not share a text
            return ()
        base, workers = self._described(), self._pool.size
        if workers < 2 or base is None or base.bytes < self._parts_from:
            return ()
        layers = next(int(kv.value) for kv in base.kvs if kv.key.endswith(".block_count"))
        rows = waves.cut(node, workers, layers)
        everything = {**nodes, **{wave.name: wave for row in rows for wave in row}}

        def send(wave: Node) -> Facts:
            done = self._send(wave, everything, urgency=float(layers - wave.params["layers"][0]))
            if done.lacks:
                raise Lacking(done.error)
            self._made[wave.name] = done.facts
            return done.facts

        try:
            return ((rows[-1][-1].step.name, waves.run(rows, send)),)
        except Lacking:
            return ()

    def _described(self) -> Description | None:
        """The base file; None where only llama.cpp's converter knows it, and then nothing is cut."""
        try:
            return describe(self._recipe, self._lock)
        except Undescribed:
            return None

    def _cut(self) -> list[tuple[Part, Future[Done]]]:
        """Begin the parts of all files that are to be quantized."""
        workers = self._pool.size
        quants = {name: node for name, node in self._nodes.items() if node.is_cut}
        missing = {n: node for n, node in quants.items() if not self._space.recorded(node, self._nodes)}
        if workers < 2 or not missing:
            return []
        self._base = self._described()
        if self._base is None or self._base.bytes < self._parts_from:
            return []
        whole = cut(missing, self._base, workers)
        self._rest = whole.rest
        self._threads = ThreadPoolExecutor(len(whole.parts) or 1)  # each waits for a worker of its own
        return [
            (part, self._threads.submit(self._send, part.node, self._nodes, (), part.urgency)) for part in whole.parts
        ]
