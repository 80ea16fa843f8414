"""Who computes a key, among machines: an object `lease/<key>` that is created once and beaten while its holder lives.

No clock is compared with another's: whoever waits sees whether the object changes, and takes it over when it has not
for as long as its own settings say. Two may then compute the same step, as two without leases would; the records that
they make are the same.
"""

import json
import os
import threading
import time
from typing import Any

from quantmill.disk import parse_json
from quantmill.store.remote.bucket import Bucket, StoreError

LIMIT = 4096
BEATS = 4  # in the time that a lease is believed without one
LONGEST = 86_400.0  # seconds for which somebody else is waited for: more than any step takes


class Leases:
    """The leases that this process holds."""

    def __init__(self, bucket: Bucket, seconds: float) -> None:
        self._bucket, self.seconds = bucket, seconds
        self._owner = os.urandom(16).hex()
        self._held: dict[str, int] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def take(self, digest: str) -> "Watched | None":
        """Hold the lease of a key: None when it is ours, else what is to be watched until it ends."""
        ours = self._bucket.create(_name(digest), self._text(0))
        found = None if ours else self.look(digest)
        if ours or (found and found.is_of(self._owner)):  # the reply to our own request may have been lost
            self._keep(digest)
            return None
        return found

    def look(self, digest: str) -> "Watched | None":
        """The lease of a key that somebody else holds, None when nobody does."""
        found = self._bucket.get_versioned(_name(digest), LIMIT)
        return Watched(self, digest, *found) if found else None

    def keep_over(self, watched: "Watched") -> bool:
        """Take over a lease whose holder is gone: whether it is ours now."""
        if not self._bucket.replace(_name(watched.digest), self._text(0), watched.version):
            return False
        self._keep(watched.digest)
        return True

    def end(self, digest: str) -> None:
        """Let a lease go that we hold."""
        with self._lock:
            if self._held.pop(digest, None) is None:
                return
        try:
            self._bucket.delete(_name(digest))
        except StoreError:
            return  # it ends by itself, when others see it no longer change

    def _keep(self, digest: str) -> None:
        with self._lock:
            self._held[digest] = 0
            if self._thread is None:
                self._thread = threading.Thread(target=self._beat, daemon=True)
                self._thread.start()

    def _beat(self) -> None:
        while True:
            time.sleep(self.seconds / BEATS)
            for digest in list(self._held):
                try:
                    self._held[digest] += 1
                    self._bucket.put(_name(digest), self._text(self._held[digest]))
                    if digest not in self._held:  # let go while we were about it
                        self._bucket.delete(_name(digest))
                except (KeyError, StoreError):
                    continue

    def _text(self, beat: int) -> bytes:
        return json.dumps({"owner": self._owner, "beat": beat}).encode()


class Watched:
    """A lease of somebody else, as it was seen first."""

    def __init__(self, leases: Leases, digest: str, data: bytes, version: object) -> None:
        self._leases, self.digest, self._data = leases, digest, data
        self.version: dict[str, str] = dict(version) if isinstance(version, dict) else {}
        self._since = self._began = time.monotonic()

    def is_of(self, owner: str) -> bool:
        """Whether it is of that owner."""
        return owner.encode() in self._data

    def ended(self) -> bool:
        """Whether its holder let it go."""
        found = self._leases.look(self.digest)
        if found is None:
            return True
        if found._beat() > self._beat() or found._owner() != self._owner():
            self._data, self._since = found._data, time.monotonic()
        self.version = found.version
        return False

    def silent(self) -> bool:
        """Whether its holder has not been heard of for so long that it is gone, or is heard of longer than any step
        takes. Whoever rewrites a lease without counting on is not heard of, and what is no lease is nobody's."""
        now = time.monotonic()
        return self._beat() < 0 or now - self._since > self._leases.seconds or now - self._began > LONGEST

    def _owner(self) -> str:
        return str(self._field("owner"))

    def _beat(self) -> int:
        beat = self._field("beat")
        return beat if type(beat) is int else -1

    def _field(self, name: str) -> Any:
        found = parse_json(self._data)
        return found.get(name) if isinstance(found, dict) else None


def _name(digest: str) -> str:
    return f"lease/{digest}"
