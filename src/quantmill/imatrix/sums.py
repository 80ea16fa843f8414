"""What the passes through a model collect, tensor by tensor, and how it becomes a file.

Arithmetic on sums is float32, value by value, as llama-imatrix does it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from quantmill.imatrix.gguf_form import ImatrixFile
from quantmill.imatrix.legacy import Entry, encode
from quantmill.imatrix.vectors import ImatrixUsageError
from quantmill.reference.reference import Reference

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The tensors of a layer in the order in which llama.cpp's graphs multiply by them.
_ORDER = (
    *("altup_router", "altup_predict_coef", "laurel_l", "laurel_r"),
    *("shortconv.in_proj", "shortconv.out_proj", "ssm_in"),
    *("attn_qkv", "attn_gate", "ssm_beta", "ssm_alpha", "ssm_ba", "ssm_out"),
    *("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate_inp"),
    *("ffn_gate", "ffn_gate_exps", "ffn_up", "ffn_up_exps", "ffn_down", "ffn_gate_up_exps", "ffn_down_exps"),
    *("ffn_gate_inp_shexp", "ffn_gate_shexp", "ffn_up_shexp", "ffn_down_shexp"),
    *("altup_correct_coef", "inp_gate", "proj"),
)
_RANK = {name: rank for rank, name in enumerate(_ORDER)}


@dataclass(frozen=True)
class Sum:
    """One tensor's: `squares` float32 (experts or 1, columns), the sums of squared inputs; `counts` int64 (experts or
    1,), how many rows were summed; `calls`, how many batches had any."""

    squares: "NDArray[np.float32]"
    counts: "NDArray[np.int64]"
    calls: int

    def __add__(self, other: "Sum") -> "Sum":
        counts, more = np.broadcast_arrays(self.counts, other.counts)  # a legacy file knows one count for all experts
        shape = (counts.size, -1)
        return Sum(self.squares.reshape(shape) + other.squares.reshape(shape), counts + more, self.calls + other.calls)


@dataclass(frozen=True)
class Sums:
    """`tensors` in the order of their first use; `datasets` are calibration files' names."""

    tensors: Mapping[str, Sum]
    datasets: tuple[bytes, ...] = ()
    chunks: int = 0
    chunk_size: int = 0

    @staticmethod
    def of_legacy(entries: Sequence[Entry], dataset: bytes, chunks: int, call_rows: int) -> "Sums":
        """A legacy file's, with `call_rows` rows for each call."""
        found: dict[str, Sum] = {}
        for entry in entries:
            squares = (entry.values * np.float32(call_rows)).reshape(1, -1)
            found[entry.name] = Sum(squares, np.array([entry.calls * call_rows]), entry.calls)
        return Sums(found, (dataset,) if dataset else (), chunks)

    @staticmethod
    def of_gguf(stored: ImatrixFile) -> "Sums":
        """A GGUF form's. Its calls are the chunks that its counts make."""
        size = stored.chunk_size or 512
        found = {}
        for name, (squares, counts) in stored.tensors.items():
            whole = np.rint(counts).astype(np.int64)
            found[name] = Sum(squares, whole, -(-int(whole.max()) // size))
        return Sums(found, stored.datasets, stored.chunks, stored.chunk_size)

    def in_graph_order(self) -> "Sums":
        """With the tensors as a pass through the model first uses them: layer by layer, the output matrix last."""
        return replace(self, tensors={name: self.tensors[name] for name in sorted(self.tensors, key=_graph_order)})

    def whole(self) -> list[str]:
        """The tensors of which every expert was reached."""
        return [name for name, sum_ in self.tensors.items() if (sum_.counts > 0).all()]

    def legacy(self, reference: Reference, dataset: bytes, chunks: int) -> bytes:
        """The bytes of the legacy file that the reference's llama-imatrix writes. ImatrixError when it has no entries.

        An expert that was missed, where its tensor has an entry at all, weighs all columns alike. `chunks` is what the
        file says that it was computed on, where the reference does not count that by the rows.
        """
        rules = reference.imatrix
        size = self.chunk_size or rules.batch
        if rules.calls == "chunks":
            chunks = self._most() // size
        written = set(self.whole()) if rules.whole_only else {n for n, s in self.tensors.items() if s.counts.any()}
        if not written:
            raise ImatrixUsageError(
                "no tensor was reached in all its parts, so there is nothing to write; use more text"
            )
        found = []
        for name in rules.order(self.tensors):
            if name in written:
                sum_ = self.tensors[name]
                counts = sum_.counts.reshape(-1, 1)
                means = np.divide(sum_.squares, np.maximum(counts, 1), dtype=np.float32)
                means[counts[:, 0] == 0] = 1
                calls = sum_.calls if rules.calls == "batches" else -(-int(counts.max()) // size)
                values = np.multiply(means, calls, dtype=np.float32)
                found.append(Entry(name, calls, values.reshape(-1)))
        return encode(found, dataset, chunks)

    def stored(self, chunk_size: int) -> ImatrixFile:
        """As the GGUF form keeps it: every tensor, experts that were not reached with a count of 0."""
        tensors = {n: (s.squares, s.counts.astype(np.float32)) for n, s in self.tensors.items()}
        return ImatrixFile(tensors, self.datasets, self._most() // chunk_size, chunk_size)

    def _most(self) -> int:
        """The rows that the most used matrix saw."""
        return max((int(sum_.counts.max()) for sum_ in self.tensors.values()), default=0)


def merge(parts: Iterable[tuple[str, Sums]]) -> Sums:
    """The sums of several, each named by its place for errors: tensors in the order in which they are first met.
    ImatrixError when a tensor's sizes differ."""
    tensors: dict[str, Sum] = {}
    datasets: tuple[bytes, ...] = ()
    chunks = 0
    for place, part in parts:
        for name, sum_ in part.tensors.items():
            known = tensors.get(name)
            if known is not None and (
                known.squares.size != sum_.squares.size
                or (known.counts.size != sum_.counts.size and 1 not in (known.counts.size, sum_.counts.size))
            ):
                raise ImatrixUsageError(
                    f"{place}: {name} has {sum_.squares.size} values, elsewhere {known.squares.size}; "
                    "merge files of one model"
                )
            tensors[name] = sum_ if known is None else known + sum_
        datasets += part.datasets
        chunks += part.chunks
    return Sums(tensors, datasets, chunks)


def _graph_order(name: str) -> tuple[float, float, str]:
    found = re.match(r"blk\.(\d+)\.(.+)\.weight$", name)
    if found is None:
        return (float("inf"), 0, name)
    return (int(found[1]), _RANK.get(found[2], float("inf")), name)
