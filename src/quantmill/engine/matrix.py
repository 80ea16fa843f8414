"""Weight matrices as the matrix product wants them: packed whole, or a range of rows at a time."""

import numpy as np
from numpy.typing import NDArray

from quantmill import _kernels
from quantmill.engine.buffers import BufferPool, Floats
from quantmill.engine.model import Model
from quantmill.engine.run import Run

_HALVES = {"f32": frozenset({"F16", "BF16"}), "bf16x2": frozenset({"BF16"})}


def panel_bytes(type_: str, arithmetic: str) -> int:
    """Bytes that a packed weight of the type takes."""
    return 2 if type_ in _HALVES[arithmetic] else 4


class Matrix:
    """A matrix, or a stack of equal ones (experts), of shape (rows, columns) each.

    `part`: the first row and the number of rows of the tensor's that are the matrix; all without.
    `step` is the number of rows that are packed at a time; 0 packs a matrix whole when it is first used, and keeps it.
    """

    def __init__(
        self,
        model: Model,
        name: str,
        run: Run,
        space: BufferPool,
        step: int = 0,
        part: tuple[int, int] | None = None,
    ) -> None:
        shape, type_ = model.described(name)
        self._first, self.rows = part or (0, shape[1] if len(shape) > 1 else 1)
        self.name, self.columns = name, shape[0]
        self._model, self._type, self._run, self._space, self._step = model, type_, run, space, step
        self._packed: dict[int, _kernels.Panels] = {}

    def _raw(self, begin: int, end: int) -> NDArray[np.uint8]:
        first = self._first
        return np.ascontiguousarray(self._model.source.rows(self.name, first + begin, first + end))

    def _pack(self, begin: int, end: int) -> _kernels.Panels:
        raw = self._raw(begin, end)
        run = self._run
        return _kernels.pack(self._type.name, raw, end - begin, self.columns, run.kind, run.threads)

    def hold(self, panels: _kernels.Panels | None) -> None:
        """Packs a matrix that is to be kept; into panels that are free now, if there are such."""
        if self._step or 0 in self._packed:
            return
        if panels is None:
            self._packed[0] = self._pack(0, self.rows)
            return
        _kernels.repack(panels, self._type.name, self._raw(0, self.rows), self.rows, self.columns, self._run.threads)
        self._packed[0] = panels

    @property
    def held(self) -> _kernels.Panels | None:
        """The panels of a matrix that is kept whole."""
        return self._packed.get(0)

    def apply(self, x: Floats, out: Floats, threads: int, index: int = 0) -> None:
        """out = x @ w.T by so many threads, with matrix `index` of the stack; `x` (m, columns), `out` (m, rows)."""
        begin = index * self.rows
        if not self._step or self._step >= self.rows:
            panels = self._packed.get(index)
            if panels is None:
                panels = self._pack(begin, begin + self.rows)
            if not self._step:
                self._packed[index] = panels
            _kernels.matmul(x, panels, out, threads)
            return
        for first in range(0, self.rows, self._step):
            last = min(first + self._step, self.rows)
            part = self._space.floats("part of a product", len(x), last - first)
            _kernels.matmul(x, self._pack(begin + first, begin + last), part, threads)
            out[:, first:last] = part
