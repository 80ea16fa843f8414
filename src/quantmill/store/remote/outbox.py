"""What waits to be sent to the shared store: a file a result below `outbox/`, so that a restart forgets none."""

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from quantmill.disk import names_in, write_own


class Outbox:
    """Sends results one after the other in a thread, beside whatever else the process does."""

    def __init__(self, root: Path, send: Callable[[str, str], bool]) -> None:
        """`send(key's digest, task)` tells whether the result is done with; it raises nothing."""
        self._folder, self._send = root / "outbox", send
        self._waiting: dict[str, str] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._busy = ""  # the digest of the one on its way
        self._left = False

    def add(self, digest: str, task: str) -> None:
        """Send a result, now or in a later build."""
        with suppress(OSError):
            write_own(self._folder / digest, task.encode(), sync=False)
        self._queue(digest, task)

    def drop(self, digest: str) -> None:
        """Send that result neither now nor later."""
        with self._changed:
            self._waiting.pop(digest, None)
        with suppress(OSError):
            (self._folder / digest).unlink(missing_ok=True)

    def add_left(self) -> None:
        """Send what earlier builds left, once."""
        if self._left:
            return
        self._left = True
        for name in self.left():
            with suppress(OSError):
                self._queue(name, (self._folder / name).read_text(errors="replace"))

    def left(self) -> list[str]:
        """The digests of all that waits on the disk."""
        return names_in(self._folder)

    def has(self, digest: str) -> bool:
        """Whether a result waits, or is on its way."""
        with self._changed:
            return digest in self._waiting or digest == self._busy

    def __len__(self) -> int:
        """How many results wait, with the one that is on its way."""
        with self._changed:
            return len(self._waiting) + bool(self._busy)

    def wait(self, seconds: float) -> bool:
        """Wait until nothing waits, for some time: whether nothing does."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._busy, seconds)

    def clear(self) -> None:
        """Leave what waits to a later build."""
        with self._changed:
            self._waiting.clear()

    def _queue(self, digest: str, task: str) -> None:
        with self._changed:
            self._waiting.setdefault(digest, task)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._busy = ""
                self._changed.notify_all()
                self._changed.wait_for(lambda: bool(self._waiting))
                digest = next(iter(self._waiting))
                task = self._waiting.pop(digest)
                self._busy = digest
            if self._send(digest, task):
                with suppress(OSError):
                    (self._folder / digest).unlink(missing_ok=True)


def counted(results: int) -> str:
    """A number of results in words."""
    return "1 result" if results == 1 else f"{results} results"


def task_hint(task: str) -> str:
    """The object that names the key of a task."""
    return f"task/{task.replace(':', '/')}"
