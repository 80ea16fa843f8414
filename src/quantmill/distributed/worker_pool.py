"""The workers of a Dask cluster, and one step at a time on each.

Dask places, watches and repeats: a step whose worker dies runs again on another. Here is chosen which worker a step is
for: one that is idle, fits, and holds most of what the step reads.
"""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distributed import Client, Future, KilledWorker, wait

from quantmill import __version__
from quantmill.distributed.worker import Done, Job, Seen, StepFailed, forget, look, run
from quantmill.errors import QuantmillError
from quantmill.steps import versions

PATIENCE = 60.0  # seconds that a build waits for a worker when there is none
LOOK_EVERY = 1.0


@dataclass
class _Worker:
    seen: Seen
    resources: Mapping[str, float]


@dataclass(eq=False)
class _Ticket:
    """A step that waits for a worker, and the worker once it has one. Each waits by itself: a hundred threads that all
    wake whenever a worker is free would take a core from the workers of this machine."""

    name: str
    reads: Mapping[str, int]
    needs: Mapping[str, float]
    urgency: float
    avoid: str = ""  # a worker that is not to have it where there is another
    given: threading.Event = field(default_factory=threading.Event)
    address: str = ""


class Pool:
    """Safe for several threads. `patience`: how long to wait, in seconds, when there are no workers; `retries`: how
    often a step is tried again when it fails by the system's fault. `remote`: workers may have stores of their own."""

    def __init__(
        self, client: Client, root: Path, store: Path, remote: bool, patience: float = PATIENCE, retries: int = 2
    ) -> None:
        self._client, self._root, self._store, self._remote = client, root, store, remote
        self._patience, self._retries = patience, retries
        self._lock = threading.RLock()
        self._workers: dict[str, _Worker] = {}
        self._waiting: list[_Ticket] = []
        # Steps that each worker has, also while it is not known: a scheduler may drop one that it does not hear of, and
        # have it again before its step ends.
        self._busy: Counter[str] = Counter()
        self._held: dict[str, set[str]] = {}  # store → digests of objects that are there
        self._looked = 0.0
        self._alone_since: float | None = None
        self._token = f".driver-{os.urandom(8).hex()}"

    def __enter__(self) -> "Pool":
        self._store.mkdir(parents=True, exist_ok=True)
        (self._store / self._token).touch()
        return self

    def __exit__(self, *error: object) -> None:
        (self._store / self._token).unlink(missing_ok=True)

    @property
    def size(self) -> int:
        """How many workers there are now."""
        with self._lock:
            self._look()
            return len(self._workers)

    @property
    def apart(self) -> bool:
        """Whether a worker has a store of its own, or the first one, which is yet to come, may have."""
        with self._lock:
            self._look()
            return not self._workers or any(not worker.seen.shared for worker in self._workers.values())

    def run(
        self,
        job: Job,
        reads: Mapping[str, int],
        needs: Mapping[str, float],
        urgency: float,
        begun: Callable[[], None],
        call: Callable[[Job], Done] = run,
        avoid: str = "",
    ) -> Done:
        """Have a worker bring the job's node about. `reads`: digest and size of what it reads; `needs`: amounts of the
        resources memory, threads and disk, which count where a worker was started with such; of the steps that wait
        for a worker, the one of most `urgency`, in seconds, goes first; `begun` is called when it has one; `call` is
        run there, if possible not on the worker `avoid`. Raises QuantmillError."""
        name = job.node.name
        address, resources = self._take(_Ticket(name, reads, needs, urgency, avoid))
        try:
            begun()
            future = self._client.submit(
                call,
                job,
                key=f"quantmill-{name}-{os.urandom(4).hex()}",
                workers=[address],
                allow_other_workers=True,
                resources=resources,
                retries=self._retries,
                pure=False,
            )
            done = self._result(name, future)
        finally:
            with self._lock:
                self._busy[address] -= 1
                self._assign()
        self._remember(done, reads)
        return done

    def forget(self, address: str, digest: str) -> None:
        """Have a worker forget the result of a key, if it lives."""
        with suppress(OSError):
            self._client.run(forget, str(self._root), str(self._store), digest, workers=[address])

    def _result(self, name: str, future: Future) -> Done:
        try:
            while True:
                try:
                    wait([future], timeout=LOOK_EVERY * 2)
                    break
                except TimeoutError:
                    with self._lock:
                        self._look()
            result: Done = future.result()
        except KilledWorker:
            raise QuantmillError(
                f"{name}: every worker that ran it died; most often one has too little memory for it"
            ) from None
        except StepFailed as error:
            raise QuantmillError(f"{name}: {error}") from None
        finally:
            future.release()
        return result

    def _take(self, ticket: _Ticket) -> tuple[str, dict[str, float] | None]:
        with self._lock:
            self._waiting.append(ticket)
        try:
            while True:
                with self._lock:
                    self._look()
                    if self._workers and not any(_fits(worker, ticket.needs) for worker in self._workers.values()):
                        raise QuantmillError(f"{ticket.name}: {_too_small(self._workers.values(), ticket.needs)}")
                    self._assign()
                if ticket.given.wait(LOOK_EVERY):
                    break
        except BaseException:
            with self._lock:
                if ticket.address:
                    self._busy[ticket.address] -= 1
            raise
        finally:
            with self._lock:
                if ticket in self._waiting:
                    self._waiting.remove(ticket)
        with self._lock:
            worker = self._workers.get(ticket.address)
            resources = worker.resources if worker else {}
        return ticket.address, {n: amount for n, amount in ticket.needs.items() if n in resources} or None

    def _assign(self) -> None:
        """Give idle workers the most urgent steps that fit. The lock is held."""
        for ticket in sorted(self._waiting, key=lambda ticket: -ticket.urgency):
            idle = [address for address in self._workers if not self._busy[address]]
            if not idle:
                return
            able = [a for a, worker in self._workers.items() if _fits(worker, ticket.needs)]
            others = [a for a in able if a != ticket.avoid]
            if fit := [a for a in idle if a in (others or able)]:
                ticket.address = max(fit, key=lambda a: self._holds(self._workers[a], ticket.reads))
                self._busy[ticket.address] += 1
                self._waiting.remove(ticket)
                ticket.given.set()

    def _holds(self, worker: _Worker, reads: Mapping[str, int]) -> int:
        held = self._held.get(worker.seen.store, set())
        return sum(size for digest, size in reads.items() if digest in held)

    def _remember(self, done: Done, reads: Mapping[str, int]) -> None:
        with self._lock:
            if worker := self._workers.get(done.worker):
                held = self._held.setdefault(worker.seen.store, set())
                held |= {*reads, *(fact["sha256"] for fact in done.facts.values())}

    def _look(self) -> None:
        """Meet new workers, forget those that are gone. The lock is held."""
        now = time.monotonic()
        if now - self._looked < LOOK_EVERY and self._workers:
            return
        self._looked = now
        known: dict[str, Any] = self._client.scheduler_info(n_workers=-1)["workers"]
        for address in set(self._workers) - set(known):
            del self._workers[address]
        for address in set(known) - set(self._workers):
            if seen := self._meet(address):
                self._workers[address] = _Worker(seen, known[address].get("resources") or {})
        if self._workers:
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = now
        elif now - self._alone_since > self._patience:
            raise QuantmillError(
                f"{self._client.scheduler.address}: it has had no workers for {self._patience:.0f} s; "
                "start some and run again"
            )

    def _meet(self, address: str) -> Seen | None:
        try:
            found = self._client.run(look, str(self._root), str(self._store), self._token, workers=[address])
        except ImportError as error:
            raise QuantmillError(f"{address}: {error}; install the quantmill of this machine there") from None
        except OSError:  # it died just now
            return None
        if address not in found:
            return None
        seen: Seen = found[address]
        if (seen.version, dict(seen.steps)) != (__version__, versions()):
            raise QuantmillError(f"{address}: it runs quantmill {seen.version}, not {__version__} with the same steps")
        if not seen.shared and not self._remote:
            raise QuantmillError(
                f"{address}: its store {seen.folder} is not this machine's {self._store}, and there is no remote store "
                "between them; name one in quantmill.toml, or give the worker this folder by QUANTMILL_CACHE"
            )
        return seen


def _fits(worker: _Worker, needs: Mapping[str, float]) -> bool:
    return all(worker.resources.get(name, amount) >= amount for name, amount in needs.items())


def _too_small(workers: Any, needs: Mapping[str, float]) -> str:
    name = next((n for n, amount in needs.items() if all(w.resources.get(n, amount) < amount for w in workers)), None)
    if name is None:
        wanted = " and ".join(f"{amount:,.0f} of {n}" for n, amount in needs.items())
        return f"it needs {wanted}, and no one worker has that much of each; start one that has"
    most = max(worker.resources[name] for worker in workers)
    return f"it needs {needs[name]:,.0f} of {name}, and the largest worker has {most:,.0f}; start one with more"
