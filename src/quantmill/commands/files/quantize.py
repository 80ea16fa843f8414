"""`quantmill quantize`: quantize a GGUF file, byte for byte as llama-quantize does."""

import argparse
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from quantmill.commands.common import DIGITS, add_tag, bar, existing, file_path, followed, parallel, say, threads, words
from quantmill.errors import UsageError, heed_machine
from quantmill.output_file import check_output, through
from quantmill.reference.ftypes import BY_NUMBER, FTYPES

if TYPE_CHECKING:
    from quantmill.quant.mix import Fallback
    from quantmill.quant.outcome import QuantizeReport
    from quantmill.reference.reference import Reference

TYPES_LIMIT = 10_000_000  # bytes of a list of tensors' types


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("source", type=file_path, metavar="IN.gguf")
    parser.add_argument("target", type=file_path, metavar="OUT.gguf")
    parser.add_argument(
        "ftype", metavar="FTYPE", help=f"one of {' '.join(FTYPES)}, in any case, or general.file_type's number"
    )
    parser.add_argument("nthreads", type=parallel, nargs="?", metavar="NTHREADS", help="as --threads")
    parser.add_argument("--imatrix", type=file_path, metavar="FILE", help="an importance matrix")
    parser.add_argument(
        "--imatrix-name", type=words, metavar="TEXT", help="what the metadata calls it (the path as given)"
    )
    add_tag(parser, "the tag whose bytes to write")
    parser.add_argument("--threads", type=parallel, metavar="N", help="threads (all cores)")
    parser.add_argument("--output-tensor-type", type=words, metavar="TYPE")
    parser.add_argument("--token-embedding-type", type=words, metavar="TYPE")
    parser.add_argument("--tensor-type", action="append", default=[], metavar="REGEX=TYPE")
    parser.add_argument(
        "--tensor-type-file",
        dest="tensor_type",
        action="append",
        type=file_path,
        metavar="FILE",
        help="such lines in a file",
    )
    parser.add_argument("--prune-layers", type=_layers, default=(), metavar="N,N...", help="layers to leave out")
    parser.add_argument("--dry-run", action="store_true", help="say what OUT would be; write nothing")
    parser.add_argument("--allow-requantize", action="store_true", help="accept a source that is quantized already")
    parser.add_argument("--pure", action="store_true", help="the ftype's own type for every tensor")
    parser.add_argument("--leave-output-tensor", action="store_true", help="keep output.weight as it is")
    parser.add_argument("--keep-split", action="store_true", help="shards like the source's; OUT names them")
    parser.add_argument(
        "--include-weights", type=words, action="append", default=[], metavar="TEXT", help="imatrix entries to use"
    )
    parser.add_argument(
        "--exclude-weights", type=words, action="append", default=[], metavar="TEXT", help="imatrix entries to leave"
    )
    parser.add_argument(
        "--zero-as-one", action="store_true", help="weigh columns alike where an importance of zero leaves a type none"
    )
    parser.add_argument("--override-kv", action="append", default=[], metavar="KEY=TYPE:VALUE")


def run(options: argparse.Namespace) -> int:
    """Exit code 0, or an error."""
    from quantmill.quant.file_plan import parse_override
    from quantmill.quant.mix import unmatched
    from quantmill.quant.quantizer import quantize_file
    from quantmill.reference.spans import check_known, check_options

    source = existing(options.source)
    if not options.dry_run:
        check_output(options.target)
    if options.keep_split and through(options.target):
        raise UsageError(f"{options.target}: shards are files; name what their names are to begin with")
    tag, reference = followed(options)
    check_options(tag, reference, tensor_types=bool(options.tensor_type))
    check_known(reference, ["--tensor-type-file"] * any(isinstance(given, Path) for given in options.tensor_type))
    types = [_pair(text) for given in options.tensor_type for text in _lines(given)]
    number = int(options.ftype) if options.ftype.isdecimal() else None
    ftype = BY_NUMBER[number].name if number in BY_NUMBER else options.ftype
    with bar(f"{ftype} {options.target.name}") as progress, _told_of(source):
        report = quantize_file(
            source,
            options.target,
            ftype,
            imatrix=options.imatrix,
            imatrix_name=options.imatrix_name,
            reference=reference,
            threads=options.nthreads or threads(options),
            output_tensor_type=options.output_tensor_type,
            token_embedding_type=options.token_embedding_type,
            tensor_types=types,
            pure=options.pure,
            leave_output_tensor=options.leave_output_tensor,
            allow_requantize=options.allow_requantize,
            keep_split=options.keep_split,
            include_weights=options.include_weights,
            exclude_weights=options.exclude_weights,
            zero_as_one=options.zero_as_one,
            override_kv=[parse_override(text) for text in options.override_kv],
            prune_layers=options.prune_layers,
            dry_run=options.dry_run,
            tag=options.llama_cpp,
            progress=progress,
        )
    if report.unknown:
        say(f"quantmill: {source}: {report.unknown}", file=sys.stderr)
    if report.absent:
        listed = ", ".join(map(str, report.absent))
        say(f"quantmill: {source}: it has no layer {listed} to prune, as llama-quantize allows", file=sys.stderr)
    if types and (why := _ignores(options.pure and not reference.pure_fits, ftype.upper())):
        say(f"quantmill: --tensor-type has no effect {why}, as in llama-quantize", file=sys.stderr)
    for pattern in unmatched((pattern for pattern, _ in types), [tensor.name for tensor in report.tensors]):
        say(f"quantmill: --tensor-type {pattern!r} matches no tensor of {options.source}", file=sys.stderr)
    for note in _notes(report) if options.imatrix else ():
        say(f"quantmill: {options.imatrix}: {note}", file=sys.stderr)
    weights = sum(tensor.bytes * 8 for tensor in report.tensors)
    count = sum(tensor.bytes // tensor.type.size * tensor.type.block for tensor in report.tensors)
    if options.dry_run:
        _foresee(report, reference, ftype)
    would = "would have " if options.dry_run else ""
    say(f"{options.target}: {would}{report.n_bytes} bytes, {weights / max(count, 1):.2f} bits per weight")
    for (type_, wanted), same in groupby(sorted(report.fallbacks, key=_types), _types):
        names = [fallback.tensor for fallback in same]
        others = f" and {len(names) - 1} more" if len(names) > 1 else ""
        say(f"{type_} for {wanted}, whose blocks are not whole in a row: {names[0]}{others}")
    return 0


@contextmanager
def _told_of(source: Path) -> Iterator[None]:
    """A width that no block fits, which plans say too, begins with the file."""
    from quantmill.quant.mix import WidthDoesNotFit

    try:
        yield
    except WidthDoesNotFit as error:
        error.args = (f"{source}: {error}",)
        raise


def _foresee(report: "QuantizeReport", reference: "Reference", ftype: str) -> None:
    """A line for each tensor, and what stands in the way."""
    from quantmill.quant.findings import some
    from quantmill.quant.mix import needs_importance

    found = reference.ftype(ftype)
    for tensor in report.tensors:
        stored = tensor.bytes // tensor.type.size * tensor.type.block // tensor.source.block * tensor.source.size
        say(f"{tensor.name}: {tensor.source.name} {stored} -> {tensor.type.name} {tensor.bytes}")
    wanting = [
        tensor.name
        for tensor in report.tensors
        if tensor.type != tensor.source
        and not tensor.importance
        and needs_importance(reference, found, tensor.name, tensor.type)
    ]
    if wanting:
        say(f"quantmill: there is no importance vector for {some(wanting)}; give an imatrix", file=sys.stderr)


def _ignores(pure: bool, ftype: str) -> str:
    """Why types by tensor count for nothing, empty where they do; `pure`: by an older --pure, which goes before."""
    from quantmill.quant.mix import UNQUANTIZED

    if pure:
        return "with --pure"
    return f"on {ftype}" if ftype in UNQUANTIZED or ftype == "COPY" else ""


def _notes(report: "QuantizeReport") -> Iterator[str]:
    """What of the imatrix did not fit, and where it left nothing to go by."""
    from quantmill.quant.findings import UNMEASURED, some
    from quantmill.quant.unweighed import said

    total = sum(math.prod(tensor.shape) for tensor in report.tensors)
    if report.strangers:
        yield f"no tensor of the model for {some(report.strangers)}"
    quantized = [tensor for tensor in report.tensors if tensor.type != tensor.source]
    missing = [tensor for tensor in quantized if not tensor.importance and tensor.name not in UNMEASURED]
    if missing:
        share = 100 * sum(math.prod(tensor.shape) for tensor in missing) / max(total, 1)
        yield f"no importance vector for {some([tensor.name for tensor in missing])} ({share:.3g} % of the weights)"
    harmed = sorted((t.unweighed for t in quantized if t.unweighed and t.unweighed.outcome), key=lambda t: t.outcome)
    for _, same in groupby(harmed, lambda each: each.outcome):
        yield f"{said(list(same), total)}; give --zero-as-one, or an imatrix of more text"


def _types(fallback: "Fallback") -> tuple[str, str]:
    return fallback.type.name, fallback.wanted.name


def _layers(text: str) -> tuple[int, ...]:
    numbers = text.split(",")
    if not all(number.isdecimal() and number.isascii() and len(number) <= DIGITS for number in numbers):
        raise argparse.ArgumentTypeError(f"{text!r} are not layers; write their numbers like 3,4,7")
    return tuple(sorted({int(number) for number in numbers}))


def _lines(given: str | Path) -> list[str]:
    """A --tensor-type as it is, or all that its file lists."""
    if isinstance(given, str):
        return [given]
    try:
        if given.stat().st_size > TYPES_LIMIT:
            raise UsageError(f"{given}: more than {TYPES_LIMIT} bytes, which no list of tensors' types has")
        return given.read_text(encoding="utf-8").split()
    except OSError as error:
        heed_machine(error)
        raise UsageError(f"{given}: cannot be read ({error.strerror}); name a file of REGEX=TYPE") from None
    except UnicodeDecodeError:
        raise UsageError(f"{given}: not UTF-8; name a file of REGEX=TYPE") from None


def _pair(text: str) -> tuple[str, str]:
    pattern, equals, type_ = text.rpartition("=")
    if not equals or not pattern or not type_:
        raise UsageError(f"--tensor-type {text!r}: write it like attn_v=Q6_K, a regular expression and a type")
    return pattern, type_
