"""What a step reads is hashed while it reads it, so that nothing is made of an object that is damaged."""

import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import TypeVar

from quantmill.artifact import Artifact, ByteRange
from quantmill.store.local import Store

AT_ONCE = 16 << 20  # bytes of an object that is hashed before the step begins
T = TypeVar("T")


class Damaged(Exception):
    """An object that a step read is not what its name says, or an output not what its key promises."""


def small(inputs: Mapping[str, Artifact]) -> dict[str, Artifact]:
    """Those that even a step reads which asks for names and digests alone."""
    return {name: artifact for name, artifact in inputs.items() if artifact.size <= AT_ONCE}


class Reading:
    """The objects that one run of a step reads, by their names there. Those that this process has hashed, and nobody
    touched since, are not hashed again. Large ones are hashed beside the step, unless it may be killed and go on later
    (`first`)."""

    def __init__(self, store: Store, inputs: Mapping[str, Artifact], first: bool) -> None:
        self._store, self._first = store, first
        self._inputs = {artifact.sha256: (name, artifact) for name, artifact in inputs.items()}
        self._lent: dict[str, Artifact] = {}
        self._damaged: dict[str, str] = {}  # digest → what messages call it

    def find(self, key: str) -> ByteRange | None:
        """`Hints.find_span`. Who copies a span hashes it first; the object must not be touched until it is copied."""
        span = self._store.hints.find_span(key)
        try:
            if span is None or not self._store.has(lent := Artifact(span.path, span.path.name, span.path.stat().st_size)):
                return None
        except OSError:
            return None
        self._lent[lent.sha256] = lent
        return span

    def during(self, run: Callable[[], T]) -> T:
        """What `run` returns; Damaged where something that it reads is damaged, whatever came of it."""
        everything = [artifact for _, artifact in self._inputs.values()]
        self._look(artifact for artifact in everything if self._first or artifact.size <= AT_ONCE)
        self._raise()
        beside = threading.Thread(target=self._look_ahead, args=(everything,), daemon=True)
        beside.start()
        try:
            made = run()
        except Exception:
            beside.join()
            self._look(everything, self._store.check)  # all anew: that may be why
            self._raise()
            raise
        beside.join()
        self._look(everything)  # stats alone, where nobody touched them
        self._look(self._lent.values(), self._store.has)
        self._raise()
        return made

    def _look_ahead(self, artifacts: Iterable[Artifact]) -> None:
        with suppress(OSError):  # who looks at all of them at last meets it too, or it has passed
            self._look(artifacts)

    def _look(self, artifacts: Iterable[Artifact], whole: Callable[[Artifact], bool] | None = None) -> None:
        whole = whole or self._store.intact
        for artifact in artifacts:
            if not whole(artifact):
                name, _ = self._inputs.get(artifact.sha256, (artifact.sha256[:16], artifact))
                self._damaged[artifact.sha256] = name

    def _raise(self) -> None:
        if self._damaged:
            raise Damaged(f"{', '.join(self._damaged.values())} was damaged in the store")
