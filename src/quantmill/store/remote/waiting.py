"""How long a shared store may keep a build waiting: hardly longer than the build takes without it.

Whoever owns a bucket can be slow on purpose, a byte at a time. So one thing is waited for as long as anything may take
(GRACE), or TIMES what making it would take here, where that is more. All that was waited for in vain is added up. Where
it is more than GRACE and a share of what the build did meanwhile, the shared store is left alone.
"""

import threading
import time
from collections.abc import Callable

from quantmill.errors import QuantmillError
from quantmill.store.shared import Worth

GRACE = 60.0  # seconds
TIMES = 1.5  # what making it would take
LEAST = 256 << 10  # bytes a second of an object of which nobody knows what making it would take
MEASURED = 10.0  # seconds of a transfer after which its rate tells when it will end
QUESTION, HAD = 1.0, 5.0  # seconds that are not counted: of any question, and of what was had after all


class Slow(QuantmillError):
    """A transfer would take longer than making its object."""


def longest(worth: Worth, otherwise: float) -> float:
    """Seconds for which something is waited for that takes `worth` to make; `otherwise` where nobody knows."""
    made = worth()
    return max(GRACE, otherwise if made is None else TIMES * made)


class Meter:
    """The rate of one transfer of `size` bytes. Safe for several threads."""

    def __init__(self, size: int, worth: Worth, now: Callable[[], float] = time.monotonic) -> None:
        self._size, self._worth, self._now = size, worth, now
        self._began, self._came = now(), 0
        self._longest: float | None = None
        self._lock = threading.Lock()

    def skip(self, count: int) -> None:
        """So many bytes are here already."""
        with self._lock:
            self._size -= count

    def take(self, count: int = 0) -> None:
        """So many more have come; Slow when the transfer would not end in time."""
        with self._lock:
            self._came += count
            spent = self._now() - self._began
            if spent < MEASURED:
                return
            whole = spent * max(self._size, self._came) / max(self._came, 1)
            if whole <= GRACE:
                return
            if self._longest is None:
                self._longest = longest(self._worth, self._size / LEAST)
            if whole > self._longest:
                raise Slow(f"it would take {whole:.0f} s, and {self._longest:.0f} s are enough to make it")


class Waits:
    """What a process has waited for a shared store, in vain or for too little. Of times that overlap each second counts
    once. Safe for several threads."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._began = self._counted = now()
        self._lost = 0.0
        self._lock = threading.Lock()

    def since(self, began: float, free: float) -> None:
        """Something was waited for since `began`, of which so many seconds are not counted."""
        with self._lock:
            now = self._now()
            began = max(began + free, self._counted)
            if began < now:
                self._lost += now - began
                self._counted = now

    def free(self, began: float, worth: Worth, otherwise: float) -> float:
        """How many seconds since `began` are not counted, of what was had after all; `otherwise` is for what nobody
        knows the worth of."""
        if self._now() - began <= HAD:
            return HAD
        made = worth()
        return max(HAD, otherwise if made is None else TIMES * made)

    def too_long(self) -> bool:
        """Whether more was lost than a build may lose."""
        return self._lost > GRACE + (TIMES - 1) * (self._now() - self._began - self._lost)

    def now(self) -> float:
        """The time by this clock."""
        return self._now()
