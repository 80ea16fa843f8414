"""What a store of one machine asks of a store that machines share; quantmill.store.remote answers."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from quantmill.artifact import Artifact
from quantmill.errors import QuantmillError
from quantmill.store.key import StepKey

Worth = Callable[[], float | None]  # the seconds that making something would take here; None where nobody knows


def unknown() -> None:
    """What making it would take, where nobody knows."""


class Gone(QuantmillError):
    """An object that a record names can be had nowhere."""

    def __init__(self, artifact: Artifact, why: str) -> None:
        super().__init__(f"object {artifact.sha256[:16]}… is not in the store, and {why}")
        self.artifact = artifact


class SharedRecord(NamedTuple):
    """A record of the shared store that may be believed: output name → (sha256, size), and what vouches for it."""

    outputs: Mapping[str, tuple[str, int]]
    origin: Mapping[str, str]


class Remote(Protocol):
    """A store that machines share, as a store of one machine uses it (quantmill.store.remote.client)."""

    address: str  # as messages name it
    conflicts: dict[str, str]  # sentences by record: what is there is not what was computed here

    def refresh(self) -> None:
        """Hear what was taken back there, and forget it here."""

    def vouches(self, origin: Mapping[str, str]) -> bool:
        """Whether a record that was taken with this origin is still to be believed. Asks no network."""

    def find(self, key: StepKey) -> SharedRecord | None:
        """The record of a key, None when there is none to believe or the shared store cannot be reached."""

    def claim(self, key: StepKey, task: str, worth: Worth) -> AbstractContextManager[SharedRecord | None]:
        """The record of a key, after waiting for a machine that computes it, but not much longer than it is `worth`; or
        None, and while the context is open others wait for us."""

    def latest(self, task: str) -> Mapping[str, Any] | None:
        """The fields of the key that a task of that name was last recorded with."""

    def fetch(self, artifact: Artifact, part: Path, advance: Callable[[int], None], worth: Worth) -> None:
        """Leave the object's bytes, hashed, at `part`, going on with what an earlier call left there. Gone when they
        cannot be had, or not much sooner than it is `worth`."""

    def send(self, key: StepKey, task: str) -> None:
        """Send a record of the local store and its objects, some time, beside whatever else is done."""

    def withdraw(self, digests: Iterable[str]) -> None:
        """Take back the records of those names that we sent, some time: what they were made of was damaged. Asks no
        network."""

    def offer(self, artifacts: Iterable[Artifact], again: bool = False) -> None:
        """Have objects of the local store at the shared one before this returns, as far as that takes them, for a
        machine that is about to be told of them; `again`: those too that it says it has."""

    def deliver(self, artifacts: Iterable[Artifact]) -> None:
        """The same, for objects that are going to be let go here: QuantmillError where it does not take them."""

    def flush(self, wait: bool = True) -> None:
        """Wait until what was given to `send` is sent, or no more of it can be; without `wait`, leave it for the next
        build."""
