"""The hidden states of a whole text: in memory, or in a file where they are too large for it."""

import hashlib
import os
from pathlib import Path

from quantmill.architectures.errors import ForwardError
from quantmill.engine.buffers import Floats, floats
from quantmill.errors import sentence


class States:
    """float32 states of `chunks` chunks of `length` tokens, shape (chunks * length, width), one layer after the other.

    `file(layer)` names the file of the states after that many layers; with `spilled`, they live in it.
    """

    def __init__(self, folder: Path, chunks: int, length: int, width: int, spilled: bool) -> None:
        self.folder, self.chunks, self.length, self.width, self.spilled = folder, chunks, length, width, spilled
        self.layer = 0  # the number of layers that the states have passed
        self._memory = None if spilled else floats(chunks * length, width)
        self._room = floats(0)
        self._files: dict[int, int] = {}  # layer → descriptor
        self._digest = hashlib.sha256()

    def file(self, layer: int) -> Path:
        return self.folder / f"states.{layer}"

    def _descriptor(self, layer: int, flags: int) -> int:
        if layer not in self._files:
            self._files[layer] = os.open(self.file(layer), flags, 0o600)
        return self._files[layer]

    def get(self, first: int, last: int) -> Floats:
        """The states of the chunks `first` to `last`; a buffer that the next call uses again where they are spilled."""
        rows = (last - first) * self.length
        if self._memory is not None:
            return self._memory[first * self.length : last * self.length]
        if self._room.size < rows * self.width:
            self._room = floats(0)
            self._room = floats(rows * self.width)
        found = self._room[: rows * self.width].reshape(rows, self.width)
        _read(self._descriptor(self.layer, os.O_RDONLY), self.file(self.layer), found, self._offset(first))
        return found

    def _offset(self, chunk: int) -> int:
        return chunk * self.length * self.width * 4

    def put(self, first: int, states: Floats) -> None:
        """The states after one more layer, of the chunks from `first`; called for all chunks in turn."""
        if self._memory is None:
            self._write(self.layer + 1, first, states)

    def start(self, first: int, states: Floats) -> None:
        """The states before any layer, of the chunks from `first`; called for all chunks in turn."""
        if self._memory is None:
            self._write(0, first, states)
        else:
            self._memory[first * self.length : first * self.length + len(states)] = states

    def _write(self, layer: int, first: int, states: Floats) -> None:
        if first == 0:
            self._digest = hashlib.sha256()
        _write(
            self._descriptor(layer, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
            self.file(layer),
            states,
            self._offset(first),
        )
        self._digest.update(states.data.cast("B"))
        if self._offset(first) + states.nbytes == self._offset(self.chunks):
            os.close(self._files.pop(layer))

    def turn(self) -> None:
        """All chunks have passed one more layer."""
        self._close()
        self.layer += 1

    def save(self) -> str:
        """Makes sure that the states of this layer are in their file; returns the sha256 of its bytes."""
        if self._memory is not None:
            self._digest = hashlib.sha256(self._memory.data.cast("B"))
            descriptor = os.open(self.file(self.layer), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            try:
                _write(descriptor, self.file(self.layer), self._memory, 0)
            finally:
                os.close(descriptor)
        return self._digest.hexdigest()

    def load(self, layer: int, digest: str) -> bool:
        """Takes up the states in the file of that layer, if their bytes have the sha256; says whether they had."""
        path = self.file(layer)
        found = hashlib.sha256()
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except OSError:
            return False
        try:
            if os.fstat(descriptor).st_size != self._offset(self.chunks):
                return False
            self.layer = layer
            for chunk in range(self.chunks):
                states = self.get(chunk, chunk + 1)
                _read(descriptor, path, states, self._offset(chunk))
                found.update(states.data.cast("B"))
        finally:
            os.close(descriptor)
        self._close()
        self._digest = found
        if found.hexdigest() != digest:
            self.layer = 0
        return found.hexdigest() == digest

    def forget(self, layer: int) -> None:
        """Removes the files of all other layers."""
        for path in self.folder.glob("states.*"):
            if path != self.file(layer):
                path.unlink(missing_ok=True)

    def _close(self) -> None:
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()

    def close(self) -> None:
        self._close()
        self._memory = None


def _write(descriptor: int, path: Path, values: Floats, offset: int) -> None:
    data = values.data.cast("B")
    try:
        while data:
            written = os.pwrite(descriptor, data[: 1 << 30], offset)
            data, offset = data[written:], offset + written
    except OSError as error:
        raise ForwardError(sentence(OSError(error.errno, error.strerror, str(path)))) from None


def _read(descriptor: int, path: Path, values: Floats, offset: int) -> None:
    data = values.data.cast("B")
    while data:
        got = os.preadv(descriptor, [data[: 1 << 30]], offset)
        if not got:
            raise ForwardError(f"{path}: ends early; it was changed while it was in use, run the command again")
        data, offset = data[got:], offset + got
