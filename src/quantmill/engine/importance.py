"""Sums of squared inputs of every matrix, in the order in which llama-imatrix adds them up (imatrix.cpp).

The tool sees the graph evaluated on batches of a chunk's tokens. It takes a matrix product's input where the batch has
enough rows (both numbers are the reference's), and every input of a mixture's experts. An expert's rows come by their
rank in the choice of their token, then by token. Squares and sums are float32.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantmill import _kernels
from quantmill.engine.buffers import Floats
from quantmill.engine.errors import not_finite
from quantmill.reference.reference import Reference


@dataclass
class InputSums:
    """What the matrices `names`, which have one input, saw: `values` (matrices, columns), `rows` (matrices,)."""

    names: tuple[str, ...]
    values: Floats
    rows: NDArray[np.int64]
    calls: int = 0


def order(reference: Reference, ids: NDArray[np.int32], length: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """(tokens, places) of every choice in `ids`, shape (m, used), sorted by expert and then as the tool goes.

    `length` is that of a chunk; m is a multiple of it.
    """
    token, place = np.indices(ids.shape).reshape(2, -1)
    size = reference.imatrix.batch
    batch = token // length * -(-length // size) + token % length // size
    sort = np.lexsort((token, place, batch, ids.reshape(-1)))
    return token[sort], place[sort]


class Importance:
    """`place` names the model in errors; `length` is that of a chunk."""

    def __init__(self, reference: Reference, place: str, length: int, threads: int) -> None:
        self.place, self.length, self.threads = place, length, threads
        self.found: dict[str, InputSums] = {}
        batch, least = reference.imatrix.batch, reference.imatrix.least_batch
        full, tail = divmod(length, batch)
        self.batches = full + (tail > 0)
        self._counted = length if tail == 0 or tail >= least else full * batch
        self._calls = full + (tail >= least)

    def _sums(self, names: tuple[str, ...], matrices: int, columns: int) -> InputSums:
        if names[0] not in self.found:
            values = np.zeros((matrices, columns), np.float32)
            self.found[names[0]] = InputSums(names, values, np.zeros(matrices, np.int64))
        return self.found[names[0]]

    def dense(self, names: tuple[str, ...], x: Floats, threads: int = 0) -> None:
        """The input of the matrices `names`: whole chunks of rows, shape (m, columns). `threads` 0: its own."""
        threads = threads or self.threads
        if not self._calls:
            return
        sums = self._sums(names, 1, x.shape[1])
        if self._counted == self.length:
            _kernels.column_sums(x, sums.values[0], threads)
        else:
            for begin in range(0, len(x), self.length):
                _kernels.column_sums(x[begin : begin + self._counted], sums.values[0], threads)
        chunks = len(x) // self.length
        sums.rows += chunks * self._counted
        sums.calls += chunks * self._calls

    def mixture(self, names: tuple[str, ...], experts: int, columns: int, chunks: int) -> InputSums:
        """The sums of a stack of experts, about to see `chunks` more chunks by `expert`."""
        sums = self._sums(names, experts, columns)
        sums.calls += chunks * self.batches
        return sums

    def expert(self, sums: InputSums, index: int, x: Floats) -> None:
        """The rows that reach one expert, in the order of `order`."""
        _kernels.column_sums(x, sums.values[index], self.threads)
        sums.rows[index] += len(x)

    def check(self) -> None:
        """Raises a ForwardError for sums that are not."""
        for sums in self.found.values():
            if not np.isfinite(sums.values).all():
                what = f"the inputs of {sums.names[0]} overflow; no importance can be computed for this model and text"
                raise not_finite(self.place, what)

    def expanded(self) -> Iterator[InputSums]:
        """One for each matrix, in the model's order."""
        for sums in self.found.values():
            for name in sums.names:
                yield InputSums((name,), sums.values, sums.rows, sums.calls)
