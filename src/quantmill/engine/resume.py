"""Where a killed evaluation goes on: after each layer its states and sums, under a key of everything they come from.

A folder `<work>/<key>` holds `states.<layer>`, `sums.<layer>` and `state.json`, which names the layer and the sha256 of
both and is replaced in one step. What a power failure tore does not have its sha256, and is not used. A lock keeps a
second process out, which then works in a folder of its own.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from quantmill.architectures.errors import ForwardError
from quantmill.disk import read_table
from quantmill.engine.importance import Importance, InputSums
from quantmill.engine.states import States
from quantmill.errors import sentence

_STATE = "state.json"
_SHARE = 20  # a checkpoint is made when the work since the last one took so many times its cost


class Checkpoint:
    """A context manager around the folder of one evaluation; an evaluation that ends well removes it."""

    def __init__(self, work: Path | None, key: str) -> None:
        self._lock = -1
        self._cost = 0.0
        self._last = time.monotonic()
        self.kept = False
        try:
            self._open(work, key)
        except OSError as error:
            raise ForwardError(sentence(error)) from None

    def _open(self, work: Path | None, key: str) -> None:
        if work is not None:
            work.mkdir(parents=True, exist_ok=True)
            self.folder = work / key
            self.folder.mkdir(exist_ok=True)
            self._lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self.kept = True
            except OSError:
                os.close(self._lock)
                self._lock = -1
        if not self.kept:
            self.folder = Path(tempfile.mkdtemp(prefix="quantmill-", dir=work))

    def resume(self, states: States, importance: Importance | None) -> bool:
        """Takes up the states and sums of the last checkpoint, if there is one; says whether there was."""
        if not self.kept:
            return False
        try:
            state = read_table(self.folder / _STATE)
            layer, digest, sums = int(state["layer"]), str(state["states"]), str(state["sums"])
            data = (self.folder / f"sums.{layer}").read_bytes()
        except (OSError, ValueError, KeyError, TypeError):
            return False
        if hashlib.sha256(data).hexdigest() != sums or not states.load(layer, digest):
            return False
        if importance is not None:
            importance.found = decoded(data)
        return True

    def after(self, states: States, importance: Importance | None, last: bool) -> None:
        """To be called after each layer. What is cheap beside the layer is saved after each one."""
        if not self.kept:
            if states.spilled:
                states.forget(states.layer)
            return
        started = time.monotonic()
        if started - self._last < _SHARE * self._cost and not last and not states.spilled:
            return
        try:
            self._save(states, encoded(importance.found) if importance is not None else b"")
        except OSError as error:
            raise ForwardError(sentence(error)) from None
        self._last = time.monotonic()
        self._cost = self._last - started

    def _save(self, states: States, sums: bytes) -> None:
        path = self.folder / f"sums.{states.layer}"
        path.write_bytes(sums)
        state = {"layer": states.layer, "states": states.save(), "sums": hashlib.sha256(sums).hexdigest()}
        fresh = self.folder / f"{_STATE}.new"
        fresh.write_text(json.dumps(state))
        fresh.replace(self.folder / _STATE)
        states.forget(states.layer)
        for other in self.folder.glob("sums.*"):
            if other != path:
                other.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Only what a kept folder could resume outlives an evaluation that did not end well."""
        if kind is None or not self.kept:
            self.remove()
        else:
            self._unlock()

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """Like the object itself as a context, but what ends well stays, until `remove`."""
        try:
            yield
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self._unlock()

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def encoded(found: dict[str, InputSums]) -> bytes:
    """A line of JSON that says what is there, then the values and rows of each."""
    header = [[list(sums.names), list(sums.values.shape), sums.calls] for sums in found.values()]
    parts = [json.dumps(header).encode() + b"\n"]
    for sums in found.values():
        parts += [sums.values.tobytes(), sums.rows.tobytes()]
    return b"".join(parts)


def decoded(data: bytes) -> dict[str, InputSums]:
    """What `encoded` wrote; of nothing, nothing."""
    line, _, raw = data.partition(b"\n")
    found, at = {}, 0
    for names, (matrices, columns), calls in json.loads(line or b"[]"):
        values = np.frombuffer(raw, np.float32, matrices * columns, at).reshape(matrices, columns).copy()
        at += values.nbytes
        rows = np.frombuffer(raw, np.int64, matrices, at).copy()
        at += rows.nbytes
        found[names[0]] = InputSums(tuple(names), values, rows, calls)
    return found
