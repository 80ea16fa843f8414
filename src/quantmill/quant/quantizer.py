"""Quantizing a file: tensors streamed through the kernels in row chunks, in llama-quantize's order, into one new file.

The base is never read as a whole: threads read a chunk of rows each, expand and quantize it a few rows at a time, and
chunks are written in order. So memory is bounded by a few chunks whatever the size of a tensor or a model, and the
bytes depend neither on the number of threads nor on the size of a chunk.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from quantmill import _kernels, gguf
from quantmill.artifact import ByteRange, silent
from quantmill.errors import UsageError, apart, way
from quantmill.gguf.kinds import check_kind
from quantmill.gguf.scales import first_broken
from quantmill.gguf.shards import shard_name
from quantmill.gguf.source import Source
from quantmill.gguf.types import Type
from quantmill.quant.file_plan import FilePlan, ImatrixFacts, Value, plan_file, plan_split
from quantmill.quant.guide import Guide
from quantmill.quant.in_order import Buffers, Scratch, in_turn
from quantmill.quant.mix import UNQUANTIZED, Overrides, needs_importance
from quantmill.quant.outcome import QuantizeReport, TensorReport
from quantmill.quant.pruning import Pruned, prune
from quantmill.quant.refused import NotFinite, TensorRefused, no_scale, refuse_not_finite, told_of
from quantmill.quant.sharing import Sharing, append_span
from quantmill.quant.unweighed import is_empty, unweighed
from quantmill.reference.ftypes import Ftype, tensor_type
from quantmill.reference.hparams import PROJECTOR
from quantmill.reference.known_models import knows, unknown
from quantmill.reference.reference import Reference
from quantmill.reference.spans import check_known, newest

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

CHUNK_WEIGHTS = 1 << 20  # weights in a chunk of rows: what a thread reads, quantizes and hands over at once
TILE_WEIGHTS = 1 << 16  # of which so many are float32 at a time: a core's second cache holds four times as many
LANES = 16  # blocks side by side in the widest kernels


class _Asked(TypedDict):
    imatrix: ImatrixFacts | None
    overrides: Overrides
    override_kv: Sequence[tuple[str, Value]]
    pruned: Pruned | None


def quantize_file(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    ftype: str,
    *,
    imatrix: str | os.PathLike[str] | None = None,
    imatrix_name: str | None = None,
    reference: Reference | None = None,
    threads: int = 1,
    output_tensor_type: str | None = None,
    token_embedding_type: str | None = None,
    tensor_types: Sequence[tuple[str, str]] = (),
    pure: bool = False,
    leave_output_tensor: bool = False,
    allow_requantize: bool = False,
    keep_split: bool = False,
    include_weights: Sequence[str] = (),
    exclude_weights: Sequence[str] = (),
    zero_as_one: bool = False,
    override_kv: Sequence[tuple[str, Value]] = (),
    prune_layers: Sequence[int] = (),
    dry_run: bool = False,
    place: str = "",
    tag: str = "",
    sharing: Sharing | None = None,
    progress: "Callable[[int, int], None]" = silent,
) -> QuantizeReport:
    """Write to `dst` what the reference's llama-quantize (the newest's without one) writes for the base `src` and the
    same options.

    `imatrix_name` is what the file says its imatrix was called (llama-quantize stores the path that it is given);
    without it, `imatrix` as given. With `keep_split`, `dst` names the shards: `<dst>-00001-of-0000N.gguf` and so on, an
    ending `.gguf` left out. Shards of a split base are found beside the first. `zero_as_one` weighs columns alike where
    an importance of zero would leave a type's search nothing to go by. `progress` gets bytes of the base done and in
    total. `place` is what errors call the base (its path); `tag`, of those of the reference, decides what is known.
    `sharing` lends tensors that are quantized already. The files appear whole or not at all. `dry_run` says what would
    become of the tensors, and writes nothing.

    One deviation: a base whose general.alignment is not 32 stays aligned so, where llama-quantize writes a file that
    nothing can read. Raises UsageError for a call that makes no sense, before anything is written, and QuantmillError.
    """
    if include_weights and exclude_weights:
        raise UsageError("weights can be included or excluded, not both")
    reference = reference or newest()
    check_known(reference, ["--prune-layers"] * bool(prune_layers) + ["--dry-run"] * dry_run)
    found = reference.ftype(ftype)
    guide = Guide.read(imatrix, zero_as_one, include_weights, exclude_weights)
    overrides = Overrides(
        tensor_type(output_tensor_type) if output_tensor_type else None,
        tensor_type(token_embedding_type) if token_embedding_type else None,
        tuple((pattern, tensor_type(name)) for pattern, name in tensor_types),
        pure,
        leave_output_tensor,
    )
    facts = guide.facts(imatrix_name)
    if place:
        guide.called = imatrix_name or guide.called
    with told_of(place or os.fspath(src)), Source(Path(src)) as source:
        kvs = source.metadata.values()
        projectors = knows(tag or f"b{reference.last}", PROJECTOR)
        check_kind(source.files[0].place, gguf.model_facts(kvs), projectors=projectors)
        names = {name: None for name, _, _ in source.tensors()}
        pruned = prune(reference, names, prune_layers) if prune_layers else None
        asked = _Asked(imatrix=facts, overrides=overrides, override_kv=override_kv, pruned=pruned)
        if keep_split:
            files = plan_split(reference, kvs, source.shards(), ftype, **asked)
        else:
            files = [plan_file(reference, kvs, source.tensors(), ftype, **asked)]
        if pruned:
            source.rename(pruned.names)
            guide.names = {new: old for old, new in pruned.names.items()}
        paths = _paths(Path(dst), len(files)) if keep_split else [Path(dst)]
        apart(paths, [*(file.path for file in source.files), *([Path(imatrix)] if imatrix is not None else [])])
        run = _Run(reference, source, found, guide, threads, sharing or Sharing({}), progress)
        strangers = guide.strangers(names)
        reports: list[TensorReport] = []
        done: list[Path] = []
        for planned in files:
            if dry_run:
                reports += run.foreseen(planned)
            else:
                run.check(planned, allow_requantize)
        try:
            for path, planned in zip([] if dry_run else paths, [] if dry_run else files, strict=True):
                reports += run.write(path, planned)
                done.append(path)
        except BaseException:
            for path in done:  # a shard whose others failed is of no use
                path.unlink(missing_ok=True)
            raise
    return QuantizeReport(
        () if dry_run else tuple(paths),
        sum(planned.n_bytes for planned in files),
        tuple(reports),
        tuple(fallback for planned in files for fallback in planned.fallbacks),
        strangers,
        unknown(tag or f"b{reference.last}", gguf.model_facts(kvs).get("general.architecture")),
        pruned.absent if pruned else (),
    )


def quantize_tensors(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    types: Mapping[str, str],
    *,
    imatrix: str | os.PathLike[str] | None = None,
    zero_as_one: bool = False,
    allow_requantize: bool = False,
    reference: Reference | None = None,
    threads: int = 1,
    sharing: Sharing | None = None,
    progress: "Callable[[int, int], None]" = silent,
) -> QuantizeReport:
    """Write to `dst` a file of some of the base's tensors alone, each in the type of that name, as `quantize_file`
    would write them. Raises QuantmillError, and KeyError for a tensor that the base does not have."""
    reference = reference or newest()
    guide = Guide.read(imatrix, zero_as_one)
    guide.called = "the imatrix"
    with told_of("the base"), Source(Path(src)) as source:
        tensors = tuple(
            source.info(name).entry._replace(type=tensor_type(type_)) for name, type_ in sorted(types.items())
        )
        planned = FilePlan(
            kvs=(),
            tensors=tensors,
            n_bytes=gguf.file_size((), tensors),
            types={name: type_ for name, _, type_ in tensors},
            sources={name: source.info(name).type for name in types},
            fallbacks=(),
        )
        ftype = reference.ftype("COPY")
        run = _Run(reference, source, ftype, guide, threads, sharing or Sharing({}), progress)
        run.total = sum(source.info(name).nbytes for name in types)
        run.check(planned, allow_requantize)
        reports = tuple(run.write(Path(dst), planned))
    return QuantizeReport((Path(dst),), planned.n_bytes, reports, ())


def _paths(dst: Path, count: int) -> list[Path]:
    prefix = dst.name.removesuffix(".gguf")
    return [dst.with_name(shard_name(prefix, number, count)) for number in range(1, count + 1)]


def rows_at_once(reference: Reference, type_: Type, columns: int) -> int:
    """Rows that are expanded and quantized at a time: a multiple of LANES, so that no lane is idle whatever blocks a
    row has. For types whose bytes depend on it, they are as many as llama-quantize takes when it has more than one
    thread."""
    if type_.name in reference.call_weights:
        return -(-reference.call_weights[type_.name] // columns)
    return max(1, TILE_WEIGHTS // (columns * LANES)) * LANES


@dataclass
class _Tensor:
    """One tensor on its way: `span` are bytes that someone lends; `jobs` are left to be written, `digest` is theirs."""

    name: str
    shape: tuple[int, ...]
    type: Type
    importance: "NDArray[np.float32] | None" = None
    key: str | None = None
    span: ByteRange | None = None
    jobs: int = 1
    digest: "hashlib._Hash | None" = None


@dataclass(frozen=True)
class _Job:
    """`count` bytes of the base's tensor from byte `start` on: whole rows of its matrix `matrix`, one an expert; whole
    blocks of a tensor that stays as it is; all of one that is lent."""

    tensor: _Tensor
    start: int
    count: int
    matrix: int = 0


class _Run:
    """One base on its way into one or more files."""

    def __init__(
        self,
        reference: Reference,
        source: Source,
        ftype: Ftype,
        guide: Guide,
        threads: int,
        sharing: Sharing,
        progress: "Callable[[int, int], None]",
    ) -> None:
        self.reference, self.source, self.ftype, self.guide = reference, source, ftype, guide
        self.threads, self.sharing, self.progress = threads, sharing, progress
        self.buffers, self.scratch = Buffers(), Scratch()
        self.done, self.total = 0, source.nbytes

    def check(self, planned: FilePlan, allow_requantize: bool) -> None:
        """Everything that can be known to fail before a byte is written."""
        writable = {"F32", *_kernels.quantize_types()}
        for name, type_ in planned.types.items():
            stored = planned.sources[name]
            if stored == type_:
                continue
            if type_.name not in writable:
                raise TensorRefused(f"{name} is to become {type_.name}, which cannot be written; choose another type")
            if stored.name not in UNQUANTIZED and not allow_requantize:
                by = way("allow_requantize = true in [base]", "--allow-requantize", "quantmill quantize does")
                raise TensorRefused(
                    f"{name} is {stored.name} in the base, and quantizing it again loses quality; "
                    f"start from a F16, BF16 or F32 file, or allow requantizing ({by})"
                )
            if stored.name in UNQUANTIZED and stored.name not in ("F32", "F16", "BF16"):
                raise TensorRefused(f"{name} is {stored.name} in the base, which cannot be quantized")
            if len(self.source.info(name).shape) > 3:
                raise TensorRefused(f"{name} has four dimensions; only matrices and stacks of them can be quantized")
            guided = self.guide.importance(name, self.source.info(name).shape, type_) is not None
            if not guided and needs_importance(self.reference, self.ftype, name, type_):
                right = "choose another type for it, or give an imatrix that has it"
                if self.guide.imatrix is None:
                    right = "give an imatrix computed from this model"
                problem = (
                    f"{name} is to become {type_.name}, which needs an importance vector, and there is none for it"
                )
                raise TensorRefused(f"{problem}; {right}")

    def foreseen(self, planned: FilePlan) -> list[TensorReport]:
        """What becomes of each of a file's tensors, nothing of which is read."""
        return [
            self._report(_Tensor(name, shape, type_, self._importance(name, type_)))
            for name, shape, type_ in planned.tensors
        ]

    def _importance(self, name: str, type_: Type) -> "NDArray[np.float32] | None":
        info = self.source.info(name)
        return None if type_ == info.type else self.guide.importance(name, info.shape, type_)

    def write(self, path: Path, planned: FilePlan) -> list[TensorReport]:
        """Write one file; what became of each of its tensors."""
        reports: list[TensorReport] = []
        with gguf.Writer(path, planned.kvs, planned.tensors) as writer:

            def finish(done: "tuple[_Job, NDArray[np.uint8] | None]") -> None:
                job, out = done
                tensor = job.tensor
                if out is not None:
                    writer.append(out.data)
                    if tensor.digest:
                        tensor.digest.update(out.data)
                    self.buffers.give(out)
                elif tensor.span:
                    append_span(tensor.span, writer)
                self._advance(job.count)
                tensor.jobs -= 1
                if not tensor.jobs:
                    reports.append(self._report(tensor))

            # One stream of jobs for the whole file: no thread waits at the end of a tensor.
            in_turn(self._work, self._jobs(planned), finish, self.threads)
        return reports

    def _report(self, tensor: _Tensor) -> TensorReport:
        info = self.source.info(tensor.name)
        size = info.n_elements // tensor.type.block * tensor.type.size
        digest = tensor.span.sha256 if tensor.span else tensor.digest.hexdigest() if tensor.digest else None
        return TensorReport(
            tensor.name,
            tensor.shape,
            info.type,
            tensor.type,
            size,
            tensor.importance is not None,
            tensor.key,
            digest,
            tensor.span is not None,
            None
            if tensor.importance is None
            else unweighed(tensor.name, info.shape, tensor.type, tensor.importance, self.reference.arithmetic),
        )

    def _jobs(self, planned: FilePlan) -> Iterator[_Job]:
        """The file's jobs in order; what is lent is found, and hashed, when its turn to be planned comes."""
        for name, shape, type_ in planned.tensors:
            info = self.source.info(name)
            tensor = _Tensor(name, shape, type_)
            matrices, unit, weights, at_once = 1, type_.size, type_.block, 1  # what is copied is cut between any blocks
            if type_ != info.type:
                tensor.importance = self._importance(name, type_)
                tensor.key = self.sharing.key(self.reference, name, info.type, type_, tensor.importance)
                if tensor.key:
                    tensor.span = self.sharing.find_whole(tensor.key, info.n_elements // type_.block * type_.size)
                    tensor.digest = hashlib.sha256()
                unit, weights = info.type.row_bytes(info.columns), info.columns
                at_once = rows_at_once(self.reference, type_, weights)
                matrices = info.nbytes // (unit * (*info.shape, 1)[1])
            if tensor.span:
                yield _Job(tensor, 0, info.nbytes)
                continue
            size, step = info.nbytes // matrices, max(1, CHUNK_WEIGHTS // (weights * at_once)) * at_once * unit
            jobs = [
                _Job(tensor, matrix * size + start, min(step, size - start), matrix)
                for matrix in range(matrices)
                for start in range(0, size, step)
            ]
            tensor.jobs = len(jobs)
            yield from jobs

    def _work(self, job: _Job) -> "tuple[_Job, NDArray[np.uint8] | None]":
        """In a thread: the job's bytes, None for a tensor that is lent."""
        if job.tensor.span:
            return job, None
        name, type_, info = job.tensor.name, job.tensor.type, self.source.info(job.tensor.name)
        if type_ == info.type:
            raw = self.buffers.take(job.count)
            self.source.read(name, job.start, raw)
            refuse_not_finite(self.source.named(name), type_, raw, job.start)
            return job, raw
        raw = self.scratch.take("raw", job.count)
        self.source.read(name, job.start, raw)
        columns, rows = info.columns, job.count // info.type.row_bytes(info.columns)
        tile_rows = rows_at_once(self.reference, type_, columns)
        tile = self.scratch.take("tile", tile_rows * columns * 4).view(np.float32).reshape(-1, columns)
        out = self.buffers.take(rows * type_.row_bytes(columns))
        vector = None if job.tensor.importance is None else job.tensor.importance[job.matrix]
        arithmetic = self.reference.arithmetic
        if not _kernels.quantize_stored(info.type.name, raw, type_.name, out, tile, vector, arithmetic):
            refuse_not_finite(self.source.named(name), info.type, raw, job.start)
            raise NotFinite(f"{name}: some of its weights as {info.type.name} are too large for float32; get it anew")
        if broken := first_broken(type_, out):
            if vector is not None and is_empty(type_, vector, broken[0] * type_.block % columns):
                raise no_scale(name, type_, job.matrix if len(info.shape) > 2 else None)
            raise NotFinite(
                f"{name}: some of its weights are too large for {type_.name}; choose a type of wider range for it"
            )
        return job, out

    def _advance(self, count: int) -> None:
        self.done += count
        self.progress(self.done, self.total)
