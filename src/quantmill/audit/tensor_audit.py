"""One tensor held against its base: the bytes that quantizing gives, and where they are others, what rounding allows.

Tensors are read by pieces of rows, in threads, so that memory does not depend on a tensor's or a model's size.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from quantmill import _kernels
from quantmill.audit.observed import Known, Observed, RowPiece
from quantmill.audit.rounding import TYPES_BOUNDED, UNGUIDED, bounds
from quantmill.audit.row_sample import RowSample
from quantmill.audit.verdict import Spot
from quantmill.audit.ways import Way, kind, ways_for
from quantmill.errors import QuantmillError
from quantmill.gguf.types import Type
from quantmill.quant.guide import Guide
from quantmill.quant.in_order import Buffers, in_turn
from quantmill.quant.quantizer import CHUNK_WEIGHTS, rows_at_once
from quantmill.quant.refused import NotFinite
from quantmill.reference.reference import Reference

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from quantmill.audit.tensors import Tensors

    Bytes = NDArray[np.uint8]

CALL_WEIGHTS = 1 << 14  # that llama-quantize hands ggml at once: reference/llama_cpp/b4867.py
HEAD_WEIGHTS = 1 << 16  # on which it is found out how a tensor was quantized
SLICE_WEIGHTS = 1 << 17  # whose bounds are worked out at once, in float64
_COARSE = ("IQ1_S", "IQ1_M")  # whose bound says little of a weight: the whole tensor is held against the base too
_COARSE_LEAST, _COARSE_COSINE = 1 << 14, 0.2  # weights from which on, and what no rounding falls below


class Auditor:
    """A release's file and its base, both open. `digest` takes the release's rows that a sample reads, in order.

    `known`: what was found to be the same in other files of the base by the same imatrix; added to.
    """

    def __init__(
        self,
        release: "Tensors",
        base: "Tensors",
        guide: Guide,
        threads: int,
        sample: RowSample | None,
        known: Known | None = None,
    ) -> None:
        self.release, self.base, self.guide, self.threads, self.sample = release, base, guide, threads, sample
        self.known = known if known is not None and sample is None else {}
        self._usual: dict[str, tuple[int, str]] = {}  # by type the way in which the last tensor was made
        self._buffers = Buffers()
        self.bytes_read = 0
        self._kept: dict[tuple[bool, int], Bytes] = {}
        self.digest = hashlib.sha256()

    def find(self, name: str, likely: list[Reference]) -> Observed:
        """Hold a tensor that both have, in one shape, against the base."""
        info, base = self.release.info(name), self.base.info(name)
        found = Observed(name, info.type, base.type, all_rows=info.rows)
        pieces = list(self._pieces(name))
        found.rows = sum(len(piece.rows) for piece in pieces)
        self.bytes_read += found.rows * (info.nbytes // info.rows + base.nbytes // base.rows)
        self._kept.clear()
        for piece in pieces if self.sample else ():
            self._bytes(self.base, name, piece)  # is kept, too
            self.digest.update(self._bytes(self.release, name, piece).data)
        if info.type == base.type:
            return self._read(found, pieces, None)
        writable = _kernels.quantize_types()
        if info.type.name not in writable or base.type.name not in writable:
            found.problem = f"nothing here makes {info.type.name} of {base.type.name}"
            return found
        try:
            ways = list(ways_for(info.type, info, self.guide, likely))
        except QuantmillError as error:  # an importance vector of another model
            found.problem = str(error)
            return found
        found.has_vector = bool(ways) and ways[0].importance is not None
        try:
            if (same := self._same(found, pieces, ways)) is not None:
                return same
            best = self._best(found, pieces, ways) if ways else self._read(found, pieces, None)
            if best.way and not best.differing and found.type.name not in UNGUIDED:
                self.known[found.name, found.type.name][self._digest(found, pieces)] = best
            return best
        except NotFinite as error:
            found.problem = str(error)
            return found

    def _same(self, found: Observed, pieces: list[RowPiece], ways: list[Way]) -> Observed | None:
        """What is found of a tensor that another file has too, or that was made as the last one of its type; else
        None."""
        kept = self.known.setdefault((found.name, found.type.name), {}) if found.type.name not in UNGUIDED else None
        if kept and (same := kept.get(self._digest(found, pieces))) is not None:
            return same
        usual = self._usual.get(found.type.name)
        way = next((way for way in ways if (kind(found.type, way.reference), way.weighing) == usual), None)
        if way is None or self.sample is not None:
            return None
        digest = hashlib.sha256() if kept is not None else None
        if self._count(found, pieces, way, digest):
            return None
        found.way, found.blocks = way, found.rows * (self.base.info(found.name).columns // found.type.block)
        same = self._with_kinds(found, pieces, ways)
        if kept is not None and digest is not None:
            kept[digest.digest()] = same
        return same

    def _digest(self, found: Observed, pieces: list[RowPiece]) -> bytes:
        """Of the release's bytes."""
        digest = hashlib.sha256()
        for piece in pieces:
            buffer = self._whole(self.release, found.name, piece)
            digest.update(buffer.data)
            self._buffers.give(buffer)
        return digest.digest()

    def misfit(self, names: Sequence[str], likely: list[Reference]) -> tuple[int, int]:
        """In the heads of these tensors, the blocks that differ by the best way, and all."""
        differing = blocks = 0
        for name in names:
            info, base = self.release.info(name), self.base.info(name)
            found, head = Observed(name, info.type, base.type), self._head(name, list(self._pieces(name)))
            self._kept.clear()
            blocks += len(head[0].rows) * (info.columns // info.type.block)
            self.bytes_read += len(head[0].rows) * (info.nbytes // info.rows + base.nbytes // base.rows)
            try:
                ways = [None] if info.type == base.type else [*ways_for(info.type, info, self.guide, likely)]
                differing += min(int(self._differing(found, head[0], way)[3].sum()) for way in ways or [None])
            except QuantmillError:  # an importance vector of another model, or weights that are not finite
                return blocks, blocks
        return differing, blocks

    def _best(self, found: Observed, pieces: list[RowPiece], ways: list[Way]) -> Observed:
        """By the way whose bytes differ in the fewest blocks, of those that do best in the tensor's head."""
        first, head = {}, self._head(found.name, pieces)
        for number, way in enumerate(ways):
            first[number] = self._count(found, head, way)
            if not first[number]:
                break
        likely = sorted(first, key=lambda number: (first[number], number))
        # The importance counts for what rounding allows once most bytes show that it was this one, or none.
        per_row, fewest = self.base.info(found.name).columns // found.type.block, first[likely[0]]
        found.is_sure = fewest * 2 <= len(head[0].rows) * per_row or (
            self._count(found, pieces, ways[likely[0]]) * 2 <= found.rows * per_row
        )
        best = self._read(found, pieces, ways[likely[0]])
        if not best.differing:
            self._usual[best.type.name] = kind(best.type, ways[likely[0]].reference), ways[likely[0]].weighing
            return self._with_kinds(best, pieces, ways)
        if best.differing and best.differing * 2 <= best.blocks:
            rest = [
                number for number in range(len(ways)) if number != likely[0] and first.get(number, 0) * 2 <= best.blocks
            ]
            for number in rest:
                if self._count(found, pieces, ways[number]) < best.differing:
                    best = self._read(found, pieces, ways[number])
        return best if best.differing else self._with_kinds(best, pieces, ways)

    def _with_kinds(self, best: Observed, pieces: list[RowPiece], ways: list[Way]) -> Observed:
        """With the other arithmetics that write the same, as far as the head shows."""
        assert best.way is not None
        head = self._head(best.name, pieces)
        for way in ways:
            same = way.weighing == best.way.weighing
            if same and (way is best.way or not self._count(best, head, way)):
                best.kinds.add(kind(best.type, way.reference))
        return best

    def _count(self, found: Observed, pieces: list[RowPiece], way: Way, digest: "hashlib._Hash | None" = None) -> int:
        """The blocks that differ. `digest` takes the release's bytes."""
        total = 0

        def work(piece: RowPiece) -> "tuple[int, Bytes]":
            release, raw = (self._whole(source, found.name, piece) for source in (self.release, self.base))
            expected = self._buffers.take(len(release))
            self._quantize(found, raw, piece, way, expected)
            differs = 0
            if not np.array_equal(expected, release):
                size = found.type.size
                differs = int((expected.reshape(-1, size) != release.reshape(-1, size)).any(axis=1).sum())
            for buffer in (raw, expected):
                self._buffers.give(buffer)
            return differs, release

        def finish(done: "tuple[int, Bytes]") -> None:
            nonlocal total
            total += done[0]
            if digest is not None:
                digest.update(done[1].data)
            self._buffers.give(done[1])

        in_turn(work, pieces, finish, self.threads)
        return total

    def _read(self, found: Observed, pieces: list[RowPiece], way: Way | None) -> Observed:
        """All pieces by one way."""
        best = Observed(found.name, found.type, found.base, way, has_vector=found.has_vector, rows=found.rows)
        best.all_rows, best.is_sure = found.all_rows, found.is_sure

        def work(piece: RowPiece) -> Observed:
            raw, expected, release, differs = self._differing(best, piece, way)
            part = Observed(best.name, best.type, best.base, way, blocks=len(differs), differing=int(differs.sum()))
            part.is_sure = best.is_sure
            if part.differing:
                self._judge(part, piece, raw, expected, release, differs)
            return part

        def finish(part: Observed) -> None:
            best.blocks += part.blocks
            best.differing += part.differing
            best.outside += part.outside
            best.untold += part.untold
            best.sums += part.sums
            best.first, best.worst = best.first or part.first, best.worst or part.worst

        in_turn(work, pieces, finish, self.threads)
        if best.type.name in _COARSE and best.differing * best.type.block >= _COARSE_LEAST and not best.outside:
            xx, yy, xy = best.sums
            if xy < _COARSE_COSINE * np.sqrt(xx * yy):
                best.outside, best.worst = best.differing, best.first
        return best

    def _differing(
        self, found: Observed, piece: RowPiece, way: Way | None
    ) -> "tuple[Bytes, Bytes, Bytes, NDArray[np.bool_]]":
        """The base's bytes, those expected, the release's, and which blocks differ."""
        release, raw = self._bytes(self.release, found.name, piece), self._bytes(self.base, found.name, piece)
        size = found.type.size
        if way is None and found.type != found.base:  # nothing writes it without an importance vector
            return raw, release, release, np.ones(len(release) // size, bool)
        if way is None:
            expected = raw
        else:
            expected = np.empty(len(release), np.uint8)
            self._quantize(found, raw, piece, way, expected)
        return raw, expected, release, (expected.reshape(-1, size) != release.reshape(-1, size)).any(axis=1)

    def _quantize(self, found: Observed, raw: "Bytes", piece: RowPiece, way: Way, out: "Bytes") -> None:
        """Fill `out` with what the way makes of the base's bytes."""
        info, type_ = self.base.info(found.name), found.type
        rows = rows_at_once(way.reference, type_, info.columns)
        buffer = self._buffers.take(rows * info.columns * 4)
        tile = buffer.view(np.float32).reshape(rows, info.columns)
        vector = None if way.importance is None else way.importance[piece.matrix]
        arithmetic = way.reference.arithmetic
        finite = _kernels.quantize_stored(info.type.name, raw, type_.name, out, tile, vector, arithmetic)
        self._buffers.give(buffer)
        if not finite:
            raise NotFinite("the base has weights there that are not finite")

    @np.errstate(all="ignore")
    def _judge(
        self,
        part: Observed,
        piece: RowPiece,
        raw: "Bytes",
        expected: "Bytes",
        release: "Bytes",
        differs: "NDArray[np.bool_]",
    ) -> None:
        """Whether rounding gives the blocks that differ."""
        info, type_ = self.base.info(part.name), part.type
        at = np.flatnonzero(differs)
        per_row = info.columns // type_.block
        base = np.empty((len(piece.rows), info.columns), np.float32)
        _kernels.dequantize(info.type.name, raw, base)
        base = base.reshape(-1, type_.block)
        blocks = release.reshape(-1, type_.size)
        places = piece.rows[at // per_row] * per_row + at % per_row
        vector = self._importance(part, piece) if part.is_sure else None
        if type_.name not in TYPES_BOUNDED or (info.type == type_ and type_.block > 1):
            part.outside = len(at)  # what is copied has the base's bytes
        step = max(1, SLICE_WEIGHTS // type_.block)
        for start in range(0, len(at), step):
            chosen = at[start : start + step]
            given = None if vector is None else vector[chosen % per_row]
            if type_.name not in TYPES_BOUNDED:
                break
            held = bounds(type_, blocks[chosen], base[chosen], given, maybe=not part.is_sure)
            if part.first is None:
                part.first = self._spot(
                    type_, int(places[0]), expected.reshape(-1, type_.size)[at[:1]], base[at[0]], held.values[0]
                )
            wrong = held.outside
            part.outside += int(wrong.any(axis=1).sum()) if info.type != type_ or type_.block == 1 else 0
            part.untold += int(held.untold.sum())
            if part.worst is None and wrong.any():
                row, weight = (int(value) for value in np.argwhere(wrong)[0])
                far = np.where(wrong[row], np.abs(held.values[row].astype(np.float64) - base[chosen[row]]), -1)
                weight = int(far.argmax())
                part.worst = Spot(
                    int(places[start + row]), weight, float(base[chosen[row], weight]), float(held.values[row, weight])
                )
            if type_.name in _COARSE:
                x, y = base[chosen].astype(np.float64), held.values.astype(np.float64)
                part.sums += (x * x).sum(), (y * y).sum(), (x * y).sum()
        if part.outside and part.worst is None:
            part.worst = part.first

    def _spot(
        self, type_: Type, block: int, expected: "Bytes", base: "NDArray[np.float32]", found: "NDArray[np.float32]"
    ) -> Spot:
        """Of a block, the weight that is furthest from what was expected."""
        wanted = np.empty((1, type_.block), np.float32)
        _kernels.dequantize(type_.name, np.ascontiguousarray(expected).reshape(-1), wanted)
        with np.errstate(all="ignore"):
            far = np.nan_to_num(np.abs(wanted[0].astype(np.float64) - found), nan=np.inf)
        weight = int(far.argmax())
        return Spot(block, weight, float(base[weight]), float(found[weight]))

    def _importance(self, part: Observed, piece: RowPiece) -> "NDArray[np.float32] | None":
        """The importance vector that the tensor was made with, by blocks of a row."""
        vector = part.way.importance if part.way else None
        return None if vector is None else vector[piece.matrix].reshape(-1, part.type.block)

    def _pieces(self, name: str) -> Iterator[RowPiece]:
        """Whole rows of one matrix at a time, as many as a quantizer takes."""
        info = self.base.info(name)
        columns, matrices = info.columns, info.rows // (*info.shape, 1, 1)[1]
        of_matrix = info.rows // matrices
        read = self.sample.rows(name, info.rows) if self.sample else None
        at_once = _whole_calls(CHUNK_WEIGHTS, columns)
        for matrix in range(matrices):
            if read is None:
                rows = np.arange(matrix * of_matrix, (matrix + 1) * of_matrix)
            else:
                low, high = np.searchsorted(read, (matrix * of_matrix, (matrix + 1) * of_matrix))
                rows = read[low:high]
            for start in range(0, len(rows), at_once):
                yield RowPiece(rows[start : start + at_once], matrix)

    def _head(self, name: str, pieces: list[RowPiece]) -> list[RowPiece]:
        """The first rows of a tensor, on which all ways are tried."""
        return [replace(pieces[0], rows=pieces[0].rows[: _whole_calls(HEAD_WEIGHTS, self.base.info(name).columns)])]

    def _bytes(self, source: "Tensors", name: str, piece: RowPiece) -> "Bytes":
        """The rows' bytes, read in runs of neighbours. What a sample reads is kept while its tensor is looked at."""
        size = source.info(name).type.row_bytes(source.info(name).columns)
        key = source is self.base, int(piece.rows[0])
        if (kept := self._kept.get(key)) is not None and len(kept) >= len(piece.rows) * size:
            return kept[: len(piece.rows) * size]
        into = np.empty(len(piece.rows) * size, np.uint8)
        self._fill(source, name, piece, into)
        if self.sample:
            self._kept[key] = into
        return into

    def _whole(self, source: "Tensors", name: str, piece: RowPiece) -> "Bytes":
        """The same in a buffer to be given back; what a sample keeps is copied."""
        size = source.info(name).type.row_bytes(source.info(name).columns)
        into = self._buffers.take(len(piece.rows) * size)
        if self.sample:
            into[:] = self._bytes(source, name, piece)
        else:
            self._fill(source, name, piece, into)
        return into

    def _fill(self, source: "Tensors", name: str, piece: RowPiece, into: "Bytes") -> None:
        size = len(into) // len(piece.rows)
        ends = np.flatnonzero(np.diff(piece.rows) != 1) + 1
        runs = [
            (int(piece.rows[start]) * size, into[start * size : end * size])
            for start, end in zip((0, *ends), (*ends, len(piece.rows)), strict=True)
        ]
        source.read_runs(name, runs)


def _whole_calls(weights: int, columns: int) -> int:
    """The rows of so many weights: whole calls of ggml, on which a type's bytes may depend."""
    call = -(-CALL_WEIGHTS // columns)
    return max(1, weights // (columns * call)) * call
