"""What a step reads is hashed while it reads it, so that nothing is made of an object that is damaged."""

import threading
from collections.abc import Iterable

from quantmill.artifact import Artifact, ByteRange
from quantmill.store.local import Store

AT_ONCE = 16 << 20  # bytes of an object that is hashed before the step begins


class Reading:
    """The objects that one run of a step reads. Those that this process has hashed, and nobody touched since, are not
    hashed again. Large ones are hashed beside the step, unless it may be killed and go on later (`first`)."""

    def __init__(self, store: Store, artifacts: Iterable[Artifact], first: bool) -> None:
        self._store = store
        self._all = list({artifact.sha256: artifact for artifact in artifacts}.values())
        self._damaged: dict[str, Artifact] = {}
        self._lent: dict[str, Artifact] = {}
        self._look([artifact for artifact in self._all if first or artifact.size <= AT_ONCE])
        self._thread = threading.Thread(target=self._look, args=(self._all,), daemon=True)
        self._thread.start()

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

    @property
    def begins_whole(self) -> bool:
        """Whether what was hashed at once is whole."""
        return not self._damaged

    def damaged(self, failed: bool = False) -> list[Artifact]:
        """The objects that are not whole, once all are hashed, or that somebody changed meanwhile. Where the step
        `failed` all are hashed once more: that may be why."""
        self._thread.join()
        self._look(self._all)  # stats alone, where nobody touched them
        if failed:
            self._damaged |= {found.sha256: found for found in self._all if not self._store.check(found)}
        for digest, artifact in self._lent.items():
            if not self._store.has(artifact):
                self._damaged[digest] = artifact
        return list(self._damaged.values())

    def _look(self, artifacts: Iterable[Artifact]) -> None:
        for artifact in artifacts:
            if artifact.sha256 not in self._damaged and not self._store.intact(artifact):
                self._damaged[artifact.sha256] = artifact
