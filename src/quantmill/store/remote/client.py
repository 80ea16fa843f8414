"""The shared store as a build uses it: records that are believed, objects fetched, results sent behind the build.

Whatever the shared store does, a build goes on: what it cannot give is computed, what it does not take is sent later.
"""

import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from quantmill.artifact import Artifact
from quantmill.disk import is_digest, names_in, write_own
from quantmill.errors import QuantmillError
from quantmill.store.key import StepKey
from quantmill.store.record import decode
from quantmill.store.remote.outbox import Outbox, counted, task_hint
from quantmill.store.remote.settings import Settings, find
from quantmill.store.remote.waiting import GRACE, LEAST, QUESTION, Slow, Waits, longest
from quantmill.store.shared import Gone, SharedRecord, Worth, unknown

if TYPE_CHECKING:
    from quantmill.store.remote.bucket import Bucket, StoreError
    from quantmill.store.remote.lease import Leases
    from quantmill.store.remote.registry import Registry
    from quantmill.store.remote.trust import Signer

Report = Callable[[str, str, Mapping[str, Any]], None]
WITHDRAWN = "withdrawn"  # a file for each record that is to be taken back
REST = 60  # seconds for which a shared store that failed is not asked again
POLL = (0.1, 3.0)  # seconds between looks at another's lease: the first, and the most
T = TypeVar("T")


def connect(folder: Path, root: Path, report: Report) -> "SharedStore | None":
    """The shared store that is named for work in `folder`, for the local store at `root`. Asks no network."""
    settings = find(folder)
    return SharedStore(settings, root, report) if settings else None


class SharedStore:
    """A store that machines share (store.Remote). `report(address, event, facts)` hears "told" with a text, and "send"
    with bytes done and total."""

    def __init__(self, settings: Settings, root: Path, report: Report) -> None:
        self.settings, self.address = settings, settings.address
        self._root, self._report = root, report
        self._outbox = Outbox(root, self._send_one)
        self.conflicts: dict[str, str] = {}
        self._told: set[str] = set()
        self._bad: set[str] = set()  # objects that the shared store has damaged: to be sent again
        self._resting = 0.0
        self._waits = Waits()
        self._refused = False
        self._lock = threading.Lock()
        self._turns: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)  # of each object that is sent
        self._sent = self._to_send = 0
        self._moved = time.monotonic()

    @cached_property
    def bucket(self) -> "Bucket":
        """The bucket. What needs the network begins here."""
        from quantmill.store.remote.bucket import Bucket

        return Bucket(self.settings)

    @cached_property
    def signer(self) -> "Signer | None":
        """Our signing key; None for a reader."""
        from quantmill.store.remote.trust import Signer

        return Signer(self.settings.sign, self.settings.keys) if self.settings.sign else None

    @cached_property
    def _leases(self) -> "Leases":
        from quantmill.store.remote.lease import Leases

        return Leases(self.bucket, self.settings.lease)

    @cached_property
    def registry(self) -> "Registry":
        """The records there."""
        from quantmill.store.remote.registry import Registry

        return Registry(self.bucket, self.settings, self._root, self._tell, self.withdraw)

    def refresh(self) -> None:
        """Hear what was taken back there, and forget it here."""
        self._ask(lambda: self.registry.refresh())  # to have one, the bucket is opened

    def vouches(self, origin: Mapping[str, str]) -> bool:
        """Whether a record with this origin came from here, by a key that is accepted today, and not too long ago."""
        now, limit, moment = time.time(), self.settings.max_age, origin.get("time", 0)
        if origin.get("place") != self.address or (limit is not None and float(moment) < now - limit):
            return False
        return any(key.id == origin.get("key") and not key.expired(now) for key in self.settings.keys)

    def find(self, key: StepKey) -> SharedRecord | None:
        """The record of a key that an accepted key signed; others are told of once and count as none."""
        return self._ask(lambda: self._find(key.digest())[1])

    def latest(self, task: str) -> Mapping[str, Any] | None:
        """The fields of the key that a task of that name was last recorded with."""

        def look() -> Mapping[str, Any] | None:
            digest = (self.bucket.get(task_hint(task), 64) or b"").decode("ascii", "replace")
            payload = self._find(digest)[0] if is_digest(digest) else None
            return payload["key"] if payload else None

        return self._ask(look)

    def _find(self, digest: str) -> tuple[Mapping[str, Any] | None, SharedRecord | None]:
        from quantmill.store.remote.trust import LIMIT, Refused

        self._withdraw(digest)  # before it is believed again
        for attempt in (1, 2):  # what was damaged on its way is whole when asked for again
            data = self.bucket.get(f"ac/{digest}", LIMIT)
            if data is None:
                break
            try:
                payload, found = self.registry.believe(data, digest)
                return payload, SharedRecord(found.outputs, {**found.origin, "place": self.address})
            except Refused as refused:
                if attempt == 2:
                    self._tell(f"its records are not believed where {refused.why}; those steps run here")
        return None, None

    @contextmanager
    def claim(self, key: StepKey, task: str, worth: Worth = unknown) -> Iterator[SharedRecord | None]:
        """The record of a key, after waiting for the machine that computes it, or None. Then, while the context is open
        and until the result is sent, others wait for us. The wait is hardly longer than it is `worth`."""
        digest = key.digest()
        found = self._ask(lambda: self._claim(digest, task, worth), worth)
        try:
            yield found
        except BaseException:
            self._end(digest)
            raise
        if not self._outbox.has(digest):
            self._end(digest)

    def _claim(self, digest: str, task: str, worth: Worth) -> SharedRecord | None:
        from quantmill.store.remote.lease import LONGEST  # more than any step takes

        pause, watched, began, enough = POLL[0], None, self._waits.now(), GRACE
        while True:
            if found := self._find(digest)[1]:
                return found
            if watched is None or watched.ended():
                watched = self._leases.look(digest) if self._refused or not self.signer else self._leases.take(digest)
                if watched is None:
                    return self._find(digest)[1]  # recorded between our look and our lease
                self._tell(f"another machine is computing {task}; waiting for it", always=True)
            elif watched.silent():
                self._tell(f"the machine that was computing {task} is not heard of any more", always=True)
                if self._refused or not self.signer or self._leases.keep_over(watched):
                    return None
                watched = None
                continue
            # Whoever computes it may be slow, or nobody: a lease proves nothing.
            if (waited := self._waits.now() - began) > enough and waited > (enough := longest(worth, LONGEST)):
                self._tell(f"{task} is not waited for any longer: it is made here", always=True)
                return None
            time.sleep(pause)
            pause = min(pause * 1.5, POLL[1])

    def _end(self, digest: str) -> None:
        if "_leases" in self.__dict__:
            self._leases.end(digest)

    def fetch(self, artifact: Artifact, part: Path, advance: Callable[[int], None], worth: Worth = unknown) -> None:
        """Leave the object's bytes, hashed, at `part`; Gone when they cannot be had, or not in time."""
        from quantmill.store.remote.bucket import StoreError, Wrong
        from quantmill.store.remote.transfer import fetch

        began, free, how = self._waits.now(), 0.0, (self.settings.chunk, self.settings.parallel)
        if self._rests():
            raise Gone(artifact, f"{self.address} cannot be used just now")
        try:
            if not fetch(self.bucket, artifact.sha256, artifact.size, part, *how, advance, worth):
                self._bad.add(artifact.sha256)
                raise Gone(artifact, f"{self.address} has it no more")
            free = self._waits.free(began, worth, artifact.size / LEAST)
        except Slow as slow:
            raise Gone(artifact, f"{self.address} is slow: {slow}") from None
        except Wrong as wrong:
            self._bad.add(artifact.sha256)
            raise Gone(artifact, f"{self.address} has it damaged ({wrong.name})") from None
        except StoreError as error:
            self._resting = time.monotonic() + REST
            raise Gone(artifact, str(error)) from None
        finally:
            self._waits.since(began, free)

    def send(self, key: StepKey, task: str) -> None:
        """Send a record of the local store and its objects, behind the build. A reader sends nothing."""
        if self.settings.sign and not self._refused:
            self._outbox.add(key.digest(), task)

    def send_now(self, digest: str, replace: bool = False) -> bool:
        """Send a record of the local store and its objects: whether they are at the shared store now. One that is
        damaged, or whose objects are, is told of. `replace`: what is there with other outputs is revoked. StoreError
        when the shared store does not take them."""
        from quantmill.store.remote.bucket import Wrong

        try:
            data = self._local(digest)
            return data is not None and "origin" not in data and self._publish(digest, data.get("task", ""), replace)
        except (Wrong, OSError):
            self._tell(f"the record {digest[:16]}… is not sent: what it names is gone or damaged here", always=True)
            return False

    def _local(self, digest: str) -> Mapping[str, Any] | None:
        """A record of the local store; None, told, where it is damaged."""
        found = decode(digest, (self._root / "ac" / digest).read_bytes())
        if found is None:
            self._tell(f"the record {digest[:16]}… is damaged; `quantmill cache verify` puts it aside", always=True)
        return found

    def withdraw(self, digests: Iterable[str]) -> None:
        """Take back the records of those names that our key signed, before anything is sent in their place: `flush`
        does it, or that of the next build. Asks no network."""
        for digest in digests if self.settings.sign else ():
            self._outbox.drop(digest)
            write_own(self._root / WITHDRAWN / digest, b"")

    def _withdraw(self, digest: str) -> None:
        from quantmill.store.remote.trust import LIMIT

        mark, name = self._root / WITHDRAWN / digest, f"ac/{digest}"
        if self.signer is None or not mark.exists():
            return
        data = self.bucket.get(name, LIMIT)
        if data and self.signer.signed(data):
            self.bucket.delete(name)
        mark.unlink(missing_ok=True)

    def _withdraw_all(self) -> None:
        for digest in names_in(self._root / WITHDRAWN):
            from quantmill.store.remote.bucket import StoreError

            try:
                self._withdraw(digest)
            except StoreError as error:
                self._broke(error)
                self._tell("records that are wrong are still there; the next build takes them back", always=True)
                return

    def offer(self, artifacts: Iterable[Artifact], again: bool = False) -> None:
        """Have objects of the local store here before this returns, unless we are a reader."""
        from quantmill.store.remote.bucket import StoreError, Wrong

        for artifact in artifacts:
            if not self.settings.sign or self._refused or time.monotonic() < self._resting:
                return
            try:
                self._send_object(artifact.sha256, again)
            except StoreError as error:
                self._broke(error)
            except (Wrong, OSError):
                continue  # not here, or damaged

    def deliver(self, artifacts: Iterable[Artifact]) -> None:
        """The same, for those that will be at the shared store alone: QuantmillError where that fails."""
        if not self.settings.sign or self._refused:
            raise QuantmillError(f"{self.address}: this machine may not send it files; name the key that signs")
        for artifact in artifacts:
            self._send_object(artifact.sha256)

    def flush(self, wait: bool = True) -> None:
        """Wait until everything is sent, or for `patience` seconds nothing of it was; the rest waits for the next
        build. Without `wait` it does so at once."""
        if self.settings.sign and wait and time.monotonic() >= self._resting:
            self._withdraw_all()
            self._outbox.add_left()
        if not len(self._outbox):
            if left := len(self._outbox.left()):
                self._tell(f"{counted(left)} will be sent by the next build", always=True)
            return
        if wait:
            self._tell(f"sending {counted(len(self._outbox))}", always=True)
            self._moved = time.monotonic()
            while not self._outbox.wait(0.5):
                self._report(self.address, "send", {"done": self._sent, "total": max(self._to_send, self._sent + 1)})
                if time.monotonic() - self._moved > self.settings.patience:
                    break
            self._report(self.address, "send", {"done": 1, "total": 1})
        if left := len(self._outbox):
            stop = self.bucket.stop if "bucket" in self.__dict__ else threading.Event()
            stop.set()
            self._outbox.clear()
            if self._outbox.wait(5):
                stop.clear()  # this process may have more to do, as a worker does
            self._tell(f"{counted(left)} will be sent by the next build", always=True)

    def _send_one(self, digest: str, task: str) -> bool:
        """Send one result: whether it is done with."""
        from quantmill.store.remote.bucket import StoreError, Wrong

        try:
            if self._refused or time.monotonic() < self._resting:
                return self._refused
            self._publish(digest, task)
            return True
        except StoreError as error:
            self._broke(error)
            return error.denied
        except (Wrong, OSError, ValueError, KeyError, TypeError):
            return True  # not here any more, or damaged: whoever needs it makes it again, and that is sent
        except QuantmillError as error:  # the signing key
            self._refused = True
            self._tell(str(error))
            return True
        finally:
            self._end(digest)

    def _broke(self, error: "StoreError") -> None:
        """The shared store did not take what it was sent."""
        self._refused |= error.denied
        self._resting = time.monotonic() + REST
        later = "this build sends no more" if error.denied else "results are sent by the next build"
        self._tell(f"{error.args[0].removeprefix(f'{self.address}: ')}: {later}")

    def _publish(self, digest: str, task: str, replace: bool = False) -> bool:
        """Send a result: whether it is there now."""
        data = self._local(digest)
        if data is None or "origin" in data or self.signer is None:
            return False
        key = StepKey(**data["key"])
        outputs = {name: (fact["sha256"], fact["size"]) for name, fact in data["outputs"].items()}
        if why := self.registry.revoked(digest, outputs):
            self._tell(f"{task or digest[:16]} is not sent: what was computed here is {why}", always=True)
            return False
        objects = dict(outputs.values())
        self._to_send += sum(objects.values())
        for sha256 in objects:
            self._send_object(sha256)
        self._withdraw(digest)
        sealed = self.signer.seal(key, outputs, task)
        there = self.registry.put(digest, sealed, outputs)
        if there and replace:
            self.registry.take_back(self.signer, digest, there.outputs, task, "replaced")
            there = self.registry.put(digest, sealed, outputs)
        if there:
            self.conflicts[digest] = self.registry.conflict(digest, task, there.outputs, outputs)
            return False
        self.bucket.put(task_hint(task), digest.encode())
        return True

    def _send_object(self, sha256: str, again: bool = False) -> None:
        from quantmill.store.remote.transfer import send

        path, settings = self._root / "cas" / sha256[:2] / sha256, self.settings
        with self._turns[sha256]:
            again |= sha256 in self._bad
            send(self.bucket, path, sha256, settings.chunk, settings.parallel, again, self._advance)
            self._bad.discard(sha256)

    def _advance(self, count: int) -> None:
        with self._lock:
            self._sent += count
            self._moved = time.monotonic()

    def _rests(self) -> bool:
        """Whether the shared store is left alone just now."""
        if time.monotonic() < self._resting:
            return True
        if late := self._waits.too_long():
            self._tell("it keeps this build waiting for too long; the build goes on without it for a while")
        return late

    def _ask(self, question: Callable[[], T | None], worth: Worth | None = None) -> T | None:
        """The answer; None, told once, when the shared store cannot be asked, which then rests for a while. One that
        spares what is `worth` so much may take its time."""
        from quantmill.store.remote.bucket import StoreError

        if self._rests():
            return None
        began, free = self._waits.now(), QUESTION
        try:
            answer = question()
            if answer is not None and worth is not None:
                free = self._waits.free(began, worth, math.inf)
            return answer
        except StoreError as error:
            self._resting = time.monotonic() + REST
            self._tell(f"{error.args[0].removeprefix(f'{self.address}: ')}; the build goes on without it")
            return None
        finally:
            self._waits.since(began, free)

    def _tell(self, text: str, always: bool = False) -> None:
        if always or text not in self._told:
            self._told.add(text)
            self._report(self.address, "told", {"text": text})
