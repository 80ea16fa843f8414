"""How fast bytes may go to a shared store, or come from it."""

import threading
import time
from collections.abc import Callable


class Throttle:
    """At most `rate` bytes a second, where there is a limit; counts them all. `now` and `sleep`, in seconds, are a
    clock."""

    def __init__(
        self,
        rate: int | None,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate, self._now, self._sleep = rate, now, sleep
        self._free, self._lock = 0.0, threading.Lock()
        self.total = 0

    def take(self, count: int) -> None:
        """Wait until `count` more bytes may pass."""
        with self._lock:
            self.total += count
            if self._rate is None:
                return
            now = self._now()
            pause = max(0.0, self._free - now)
            self._free = max(now, self._free) + count / self._rate
        self._sleep(pause)
