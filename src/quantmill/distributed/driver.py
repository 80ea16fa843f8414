"""The driver of a distributed build: doit's tasks as always, but steps run on workers."""

import logging
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from distributed import Client, LocalCluster, Security

from quantmill import tasks
from quantmill.build import Facts, Workspace
from quantmill.distributed.parts import PARTS_FROM, Part, cut, pairs, planned
from quantmill.distributed.pool import Pool
from quantmill.distributed.worker import Done, Job
from quantmill.errors import QuantmillError, UsageError
from quantmill.lock import Lock, current
from quantmill.plan import Node, graph
from quantmill.preview import Description, describe
from quantmill.recipe import Recipe, load

# Steps that only the driver's machine can run: one lays files out below its folder, one measures the host in its key.
HERE = ("release", "bench")
CONNECT_SECONDS = 30
BYTES_A_SECOND = 1e9  # that a step reads, checks and writes: a guess by which those that wait for a worker are ordered
TASKS = 128  # that doit keeps going at a time; most of them wait for a worker or for parts


@dataclass(frozen=True)
class Cluster:
    """Where the workers are: at `scheduler`, or `workers` processes of `threads` threads each on this machine. The
    files are PEM, for a scheduler that asks for TLS."""

    scheduler: str | None = None
    workers: int = 2
    threads: int | None = None
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None


def build(path: Path, root: Path, only: list[str], locked: bool, cluster: Cluster, parts_from: int = PARTS_FROM) -> int:
    """Build one recipe on a cluster; the exit code of the build: 0, or 1 when a task failed."""
    space = tasks.workspace(root)
    recipe = load(path)
    lock = current(recipe, locked, space.store.digest_of)
    recipe_nodes = graph(recipe, lock)
    wanted = tasks.wanted(recipe, only)
    with (
        connect(cluster) as client,
        Pool(client, root.absolute(), space.store.root.absolute(), bool(space.store.remote)) as pool,
    ):
        spread = _Spread(pool, space, recipe, lock, _below(wanted, recipe_nodes), parts_from)
        with spread:
            return tasks.run(recipe_nodes, replace(space, elsewhere=spread.run), root, wanted, TASKS)


@contextmanager
def connect(cluster: Cluster) -> Iterator[Client]:
    """A client of the cluster; UsageError where there is none."""
    for name in ("distributed", "distributed.worker", "distributed.scheduler", "distributed.nanny"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # the build says what matters of it
    if cluster.scheduler is None:
        threads = cluster.threads or max(1, tasks.cores() // cluster.workers)
        with _local(cluster.workers, threads) as local, Client(local) as client:
            yield client
        return
    security = None
    if cluster.tls_ca or cluster.tls_cert or cluster.tls_key:
        files = {"tls_ca_file": cluster.tls_ca, "tls_client_cert": cluster.tls_cert, "tls_client_key": cluster.tls_key}
        given = {key: str(path) for key, path in files.items() if path}
        security = Security(require_encryption=True, **given)
    try:
        client = Client(cluster.scheduler, security=security, timeout=CONNECT_SECONDS)
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"{cluster.scheduler}: there is no Dask scheduler that answers: {error}") from None
    with client:
        yield client


def _local(workers: int, threads: int) -> LocalCluster:
    """Workers on this machine. Ctrl-C is the driver's, which ends them; on their own they would end with tracebacks."""
    heard = signal.signal(signal.SIGINT, signal.SIG_IGN)  # which they inherit
    try:
        return LocalCluster(
            n_workers=workers,
            threads_per_worker=threads,
            memory_limit=0,  # steps bound their memory themselves
            dashboard_address=None,
            silence_logs=logging.CRITICAL,
        )
    finally:
        signal.signal(signal.SIGINT, heard)


class _Spread:
    """What a workspace asks when its store has no record of a step: it is run on a worker."""

    def __init__(
        self, pool: Pool, space: Workspace, recipe: Recipe, lock: Lock, nodes: Mapping[str, Node], parts_from: int
    ) -> None:
        self._pool, self._space, self._recipe, self._lock, self._nodes = pool, space, recipe, lock, nodes
        self._parts_from = parts_from
        self._once = threading.Lock()
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
        if node.files or node.step in HERE:
            return False
        lent = self._lent(node) if node.step == "quant" else ()
        done = self._send(node, nodes, lent, begun=lambda: self._space.report(node.name, "start", {"reason": reason}))
        for text in done.findings if node.step != "preflight" else ():
            self._space.report(node.name, "finding", {"text": text})
        return True

    def _send(
        self,
        node: Node,
        nodes: Mapping[str, Node],
        lent: tuple[Facts, ...] = (),
        seconds: float | None = None,
        begun: Callable[[], None] = lambda: None,
    ) -> Done:
        everything = {**nodes, node.name: node}
        upstream = {
            name: facts
            for name in _below([node.name], everything)
            if name != node.name and (facts := self._space.pointed(everything[name])) is not None
        }
        read = [fact for edge in node.edges for fact in upstream[edge.node].values()]
        read += [fact for facts in lent for fact in facts.values()]
        reads = {fact["sha256"]: fact["size"] for fact in read}
        if seconds is None:
            seconds = sum(reads.values()) / BYTES_A_SECOND + self._rest.get(node.name, 0.0)
        job = Job(node, everything, upstream, lent, str(self._space.build.parent), str(self._space.store.root))
        done = self._pool.run(job, reads, needs(node, reads), seconds, begun)
        if done.error:
            raise QuantmillError(done.error)
        return done

    def _lent(self, node: Node) -> tuple[Facts, ...]:
        """Outputs of the parts that hold tensors of the node's file, when they are all there."""
        with self._once:
            if self._parts is None:
                self._parts = self._cut()
        if not self._parts or self._base is None:
            return ()
        mine = pairs(planned(node, self._base)).keys()
        return tuple(future.result().facts for part, future in self._parts if part.pairs & mine)

    def _cut(self) -> list[tuple[Part, Future[Done]]]:
        """Begin the parts of all files that are to be quantized."""
        workers = self._pool.size
        quants = {name: node for name, node in self._nodes.items() if node.step == "quant"}
        missing = {n: node for n, node in quants.items() if not self._space.recorded(node, self._nodes)}
        if workers < 2 or not missing:
            return []
        self._base = describe(self._recipe, self._lock)
        if self._base.bytes < self._parts_from:
            return []
        whole = cut(missing, self._base, workers)
        self._rest = whole.rest
        self._threads = ThreadPoolExecutor(len(whole.parts) or 1)  # each waits for a worker of its own
        return [
            (part, self._threads.submit(self._send, part.node, self._nodes, (), part.seconds)) for part in whole.parts
        ]


def needs(node: Node, reads: Mapping[str, int]) -> dict[str, float]:
    """What a step takes of a worker: memory and disk in bytes, threads."""
    memory = float(node.where.get("memory", MEMORY.get(node.step, SMALL_MEMORY)))
    return {"memory": memory, "threads": 1, "disk": sum(reads.values()) if node.step in MEMORY else 0}


SMALL_MEMORY = 300e6
MEMORY = {"convert": 600e6, "quant": 600e6, "part": 600e6, "verify": 600e6}


def _below(names: list[str], nodes: Mapping[str, Node]) -> dict[str, Node]:
    """The nodes of those names and all that they need, in the graph's order."""
    wanted, waiting = set(), list(names)
    while waiting:
        name = waiting.pop()
        if name not in wanted:
            wanted.add(name)
            waiting += [*(edge.node for edge in nodes[name].edges), *nodes[name].after]
    return {name: node for name, node in nodes.items() if name in wanted}
