"""The records of a shared store: which are believed, how one is put there, and how one is taken back."""

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantmill.disk import write_own
from quantmill.store.remote.revocation import Revocation, RevokedList, digest_of, unseal_list
from quantmill.store.remote.settings import PublicKey, Settings
from quantmill.store.shared import SharedRecord

if TYPE_CHECKING:
    from quantmill.store.remote.bucket import Bucket
    from quantmill.store.remote.trust import Signer

KNOWN = "revoked"  # the newest list of each key that was seen, in the local store
AGAIN = 60  # seconds after which the lists are asked for again
ATTEMPTS = 10  # at a list or a record that others write too
Outputs = Mapping[str, tuple[str, int]]  # output name → (sha256, size)


class Registry:
    """The records in `bucket`, as the local store at `root` believes them. `tell` hears what is wrong there, `undone`
    the names of records that went here because of it."""

    def __init__(
        self,
        bucket: "Bucket",
        settings: Settings,
        root: Path,
        tell: Callable[[str], None],
        undone: Callable[[list[str]], None],
    ) -> None:
        self._bucket, self._settings, self._root = bucket, settings, root
        self._tell, self._undone = tell, undone
        self._revoked: Mapping[tuple[str, str], tuple[Revocation, str]] = {}  # with who revoked it
        self._due, self._lock = 0.0, threading.RLock()

    def believe(self, data: bytes, digest: str) -> tuple[Mapping[str, Any], SharedRecord]:
        """The payload of a record and what it says of the key of that digest; Refused for one that is not believed."""
        from quantmill.store.remote.trust import Refused, unseal

        settings = self._settings
        payload, found = unseal(data, digest, settings.keys, time.time(), settings.max_age)
        if why := self.revoked(digest, found.outputs):
            raise Refused(f"they are {why}")
        return payload, found

    def put(self, digest: str, sealed: bytes, outputs: Outputs) -> SharedRecord | None:
        """Put a record, unless there is one that is believed. That one where its outputs are others; None otherwise."""
        from quantmill.store.remote.trust import LIMIT, Refused

        name = f"ac/{digest}"
        for _ in range(ATTEMPTS):  # somebody may remove it as often as it is there
            if self._bucket.create(name, sealed):
                return None
            there = self._bucket.get_versioned(name, LIMIT)
            if there is None:
                continue
            with suppress(Refused):
                payload, found = self.believe(there[0], digest)
                if found.outputs != outputs:
                    return found
                if not self._ages(int(payload["time"])):
                    return None
            if self._bucket.replace(name, sealed, there[1]):
                return None
        return None

    def revoked(self, digest: str, outputs: Outputs) -> str:
        """By whom and why a record of that key with those outputs is revoked; empty where it is not."""
        self.refresh()
        found = self._revoked.get((digest, digest_of(outputs)))
        return f"revoked by the key {found[1]!r}{_because(found[0])}" if found else ""

    def refresh(self) -> None:
        """Ask for the lists of revoked records, now and then; what they newly name is forgotten here."""
        with self._lock:
            if time.monotonic() < self._due:
                return
            newest = {key: found for key in self._settings.keys if (found := self._newest(key))}
            self._revoked = {
                (entry.key, entry.outputs): (entry, key.name)
                for key, found in newest.items()
                for entry in found.revoked
            }
            self._warn_of_age(newest)
            self._due = time.monotonic() + AGAIN

    def conflict(self, digest: str, task: str, theirs: Outputs, ours: Outputs) -> str:
        """What to say of a record that is there with other outputs than were computed here."""
        name = next(n for n in sorted(theirs.keys() | ours.keys()) if theirs.get(n) != ours.get(n))
        there, here = (f"{found[name][0][:16]}…" if name in found else "none" for found in (theirs, ours))
        return (
            f"{self._settings.address}: {task or 'a step'} has other outputs there than were computed here: {name} is "
            f"{there} there and {here} here; find out which is right: `quantmill cache revoke {digest[:16]}` takes "
            "theirs back, and `quantmill cache push --replace` puts this machine's results in its place"
        )

    def take_back(self, signer: "Signer", digest: str, outputs: Outputs, task: str, why: str) -> None:
        """Revoke the record of a key with those outputs."""
        self.revoke(signer, [Revocation(digest, digest_of(outputs), task, why, int(time.time()))])

    def revoke(self, signer: "Signer", entries: Iterable[Revocation]) -> None:
        """Add records to the list of our key, and remove those that are still there."""
        from quantmill.store.remote.trust import LIMIT, Refused, unseal

        entries = list(entries)
        self.sign_list(signer, entries)
        for entry in entries:
            data = self._bucket.get(f"ac/{entry.key}", LIMIT) or b""
            with suppress(Refused):
                _, there = unseal(data, entry.key, self._settings.keys, time.time())
                if digest_of(there.outputs) == entry.outputs:
                    self._bucket.delete(f"ac/{entry.key}")

    def sign_list(self, signer: "Signer", more: Iterable[Revocation] = (), all_keys: bool = False) -> None:
        """Sign the list of our key anew, with more entries; `all_keys`: with those of the other keys' lists too."""
        from quantmill.store.remote.bucket import StoreError
        from quantmill.store.remote.trust import LIMIT

        key = self._own(signer)
        with self._lock:
            self.refresh()
            more = [*more, *(entry for entry, _ in self._revoked.values() if all_keys)]
            for _ in range(ATTEMPTS):
                there = self._bucket.get_versioned(_name(key), LIMIT)
                now = int(time.time())
                found = RevokedList(self._settings.address, 0, now, tuple(more))
                for older in (self._kept(key), self._open(there[0], key) if there else None):
                    if older:
                        found = found.joined(older.revoked)
                        found = RevokedList(found.place, max(found.serial, older.serial), now, found.revoked)
                found = RevokedList(found.place, found.serial + 1, now, found.revoked)
                data = found.sealed(signer)
                if len(data) > LIMIT:
                    raise StoreError(self._settings.address, "the list of revoked records would be too long to be read")
                done = (
                    self._bucket.replace(_name(key), data, there[1]) if there else self._bucket.create(_name(key), data)
                )
                if done:
                    self._due = 0.0
                    self.refresh()
                    return
        raise StoreError(self._settings.address, "others keep writing the list of revoked records; try again")

    def renew(self, signer: "Signer") -> None:
        """Sign the list of our key anew where readers would soon find it too old."""
        key = self._own(signer)
        self.refresh()
        known = self._kept(key)
        if self._settings.max_age is not None and (known is None or self._ages(known.time)):
            self.sign_list(signer)

    def _own(self, signer: "Signer") -> PublicKey:
        return next(key for key in self._settings.keys if key.id == signer.id)

    def _ages(self, moment: int) -> bool:
        """Whether what was signed then is soon too old for readers."""
        limit = self._settings.max_age
        return limit is not None and moment < time.time() - limit / 2

    def _newest(self, key: PublicKey) -> RevokedList | None:
        """The newest list of the key that was ever seen here."""
        from quantmill.store.remote.trust import LIMIT

        kept, data = self._kept(key), self._bucket.get(_name(key), LIMIT)
        found = self._open(data, key) if data is not None else None
        its = f"its list of revoked records by the key {key.name!r}"
        if kept and (found is None or found.serial < kept.serial):
            now = "gone" if data is None else f"number {found.serial}" if found else "not one that it signed"
            self._tell(f"{its} is {now}, but was number {kept.serial} before; that one counts on")
            return kept
        if found is None:
            if data is not None:
                self._tell(f"{its} is not one that it signed, and counts for nothing")
            return None
        if found.place != self._settings.address:
            self._tell(f"{its} is of another place, {found.place}; name the store alike everywhere")
        if kept and kept.serial == found.serial:
            return found.joined(kept.revoked)
        for entry in found.revoked:
            if kept is None or entry not in kept.revoked:
                self._forget(entry, key)
        if data is not None:
            with suppress(OSError):
                write_own(self._path(key), data)
        return found

    def _forget(self, entry: Revocation, key: PublicKey) -> None:
        from quantmill.store.descent import forget_record

        def wrong(outputs: Mapping[str, Any]) -> bool:
            return digest_of({name: (fact["sha256"], fact["size"]) for name, fact in outputs.items()}) == entry.outputs

        gone = forget_record(self._root, entry.key, wrong)
        if gone is None:
            return
        self._undone(gone)
        also = f", and {len(gone)} records that were made of it" if gone else ""
        self._tell(
            f"{entry.task or entry.key} is revoked by the key {key.name!r}{_because(entry)}; it is forgotten here{also}"
        )

    def _warn_of_age(self, newest: Mapping[PublicKey, RevokedList]) -> None:
        limit, now = self._settings.max_age, time.time()
        if limit is None:
            return
        old = [repr(key.name) for key, found in newest.items() if found.time < now - limit and not key.expired(now)]
        if old or not newest:
            what = f"older than max_age (by the key {', '.join(old)})" if old else "not there"
            self._tell(
                f"its list of revoked records is {what}: somebody may keep the store from changing; "
                "`quantmill cache sign` on the machine that signs renews it"
            )

    def _kept(self, key: PublicKey) -> RevokedList | None:
        try:
            return self._open(self._path(key).read_bytes(), key)
        except OSError:
            return None

    def _open(self, data: bytes, key: PublicKey) -> RevokedList | None:
        from quantmill.store.remote.trust import Refused

        try:
            return unseal_list(data, key)
        except Refused:
            return None

    def _path(self, key: PublicKey) -> Path:
        return self._root / KNOWN / hashlib.sha256(f"{self._settings.address}\n{key.id}".encode()).hexdigest()


def _name(key: PublicKey) -> str:
    return f"revoked/{key.id}"


def _because(entry: Revocation) -> str:
    return f" ({entry.why})" if entry.why else ""
