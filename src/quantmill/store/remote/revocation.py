"""Records that are taken back: `revoked/<id of a key>` in the shared store, a list that this key signed.

Its payload is canonical JSON `{"place", "serial", "time", "quantmill", "revoked": [{"key", "outputs", "task", "why",
"time"}]}`. An entry is a step key's digest and the digest of wrong outputs, so that right ones of the same key count.
The serial only rises: whoever has seen a list takes no older one.
"""

import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from quantmill import __version__
from quantmill.disk import is_digest
from quantmill.store.key import canonical
from quantmill.store.remote.settings import PublicKey

if TYPE_CHECKING:
    from quantmill.store.remote.trust import Signer

PAYLOAD_TYPE = "application/vnd.quantmill.revoked+json"
LARGEST = 1 << 53  # of a serial or a time
SHOWN = 200  # characters of a reason or a task's name


class Revocation(NamedTuple):
    """A record that is wrong: the digest of its step key, and `digest_of` its outputs."""

    key: str
    outputs: str
    task: str
    why: str
    time: int


@dataclass(frozen=True)
class RevokedList:
    """What one key revoked in the shared store at `place`. Times are in seconds since 1970."""

    place: str
    serial: int
    time: int
    revoked: tuple[Revocation, ...]

    def joined(self, more: Iterable[Revocation]) -> "RevokedList":
        """With further entries; of those for the same record, the older one."""
        known = {(entry.key, entry.outputs): entry for entry in (*more, *self.revoked)}
        return replace(self, revoked=tuple(known.values()))

    def sealed(self, signer: "Signer") -> bytes:
        """The list, signed."""
        entries = [entry._asdict() for entry in sorted(self.revoked)]
        payload: dict[str, Any] = {"place": self.place, "serial": self.serial, "time": self.time, "revoked": entries}
        return signer.sign(canonical(payload | {"quantmill": __version__}).encode(), PAYLOAD_TYPE)


def digest_of(outputs: Mapping[str, tuple[str, int]]) -> str:
    """sha256 of a record's outputs: {name: (sha256, size)}."""
    listed = {name: {"sha256": sha256, "size": size} for name, (sha256, size) in outputs.items()}
    return hashlib.sha256(canonical(listed).encode()).hexdigest()


def unseal_list(data: bytes, key: PublicKey) -> RevokedList:
    """The list in an envelope; Refused unless that key signed it. What a key revoked stays so when it has expired."""
    from quantmill.store.remote.trust import EARLY, Refused, opened

    content, _ = opened(data, PAYLOAD_TYPE, [replace(key, expires=None)], time.time(), "it is")
    try:
        found = json.loads(content)
        entries = tuple(_entry(entry) for entry in found["revoked"])
        whole = RevokedList(str(found["place"]), _number(found["serial"]), _number(found["time"]), entries)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Refused("it is no list of revoked records") from None
    if whole.time > time.time() + EARLY:
        raise Refused("its time is in the future")
    return whole


def _entry(found: Mapping[str, Any]) -> Revocation:
    if not (is_digest(found["key"]) and is_digest(found["outputs"])):
        raise ValueError("no digest")
    task, why = str(found["task"])[:SHOWN], str(found["why"])[:SHOWN]
    return Revocation(found["key"], found["outputs"], task, why, _number(found["time"]))


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value < LARGEST:
        raise ValueError("no number")
    return value
