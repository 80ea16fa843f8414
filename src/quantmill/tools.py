"""The steps as tools of their own, for any GGUF file: `quantmill quantize|convert|split|merge|verify`."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from quantmill.artifact import Context, silent
from quantmill.errors import QuantmillError, UsageError

Progress = Callable[[int, int], None]


def quantize(options: argparse.Namespace) -> int:
    """`quantmill quantize IN.gguf OUT.gguf FTYPE`."""
    from quantmill.compat import check_options, generation_of
    from quantmill.quant.driver import quantize_file
    from quantmill.quant.planned import parse_override

    generation = generation_of(options.llama_cpp)
    check_options(options.llama_cpp, tensor_types=bool(options.tensor_type))
    with _progress(f"{options.ftype} {options.target.name}") as progress:
        report = quantize_file(
            _existing(options.source),
            options.target,
            options.ftype,
            imatrix=options.imatrix,
            imatrix_name=options.imatrix_name,
            generation=generation,
            threads=_threads(options),
            output_tensor_type=options.output_tensor_type,
            token_embedding_type=options.token_embedding_type,
            tensor_types=[_pair(text) for text in options.tensor_type],
            pure=options.pure,
            leave_output_tensor=options.leave_output_tensor,
            allow_requantize=options.allow_requantize,
            keep_split=options.keep_split,
            include_weights=options.include_weights,
            exclude_weights=options.exclude_weights,
            override_kv=[parse_override(text) for text in options.override_kv],
            progress=progress,
        )
    weights = sum(tensor.bytes * 8 for tensor in report.tensors)
    count = sum(tensor.bytes // tensor.type.size * tensor.type.block for tensor in report.tensors)
    print(f"{options.target}: {report.n_bytes} bytes, {weights / max(count, 1):.2f} bits per weight")
    for fallback in report.fallbacks:
        print(f"{fallback.tensor}: {fallback.type.name}, for its rows are not whole {fallback.wanted.name} blocks")
    return 0


def convert(options: argparse.Namespace) -> int:
    """`quantmill convert DIR OUT.gguf`."""
    from quantmill.lock import wanted
    from quantmill.steps.convert import convert as run

    folder: Path = options.source
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such folder; give a model in Hugging Face layout")
    names = wanted(str(folder), [path.name for path in folder.iterdir() if path.is_file()])
    name = options.name or folder.resolve().name
    with _progress(f"convert {options.target.name}") as progress:
        run(
            {name: folder / name for name in names},
            options.target,
            options.type,
            name,
            options.pre_tokenizer,
            Context(threads=_threads(options), progress=progress),
            place=str(options.target),
        )
    print(f"{options.target}: {options.target.stat().st_size} bytes")
    return 0


def split(options: argparse.Namespace) -> int:
    """`quantmill split IN.gguf DIR`."""
    from quantmill.gguf import split as run
    from quantmill.recipe import size

    try:
        limit = size(options.max_size)
    except ValueError as error:
        raise UsageError(f"--max-size: {error}") from None
    prefix = options.prefix or options.source.stem
    with _progress(f"split {options.source.name}") as progress:
        paths = run(_existing(options.source), options.folder, prefix, max_size=limit, progress=progress)
    for path in paths:
        print(path)
    return 0


def merge(options: argparse.Namespace) -> int:
    """`quantmill merge SHARD.gguf OUT.gguf`."""
    from quantmill.gguf import merge as run

    with _progress(f"merge {options.target.name}") as progress:
        print(run(_existing(options.source), options.target, progress=progress))
    return 0


def verify(options: argparse.Namespace) -> int:
    """`quantmill verify FILE.gguf...`: 0 when every file is whole, 1 and a line for each that is not."""
    import json

    from quantmill.gguf.verifying import verify as run

    reports, failed = [], 0
    for path in options.files:
        try:
            with _progress(f"verify {path.name}") as progress:
                report = run(_existing(path), progress=progress)
        except QuantmillError as error:
            print(f"quantmill: {error}", file=sys.stderr)
            failed = max(failed, error.exit_code)
            continue
        reports.append(report.to_json())
        for file in report.files if not options.json else ():
            print(f"{file.sha256}  {file.name}  {file.size} bytes, {file.tensors} tensors: whole")
    if options.json:
        print(json.dumps(reports, indent=1))
    return failed


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file; give the path of a GGUF file")
    return path


def _pair(text: str) -> tuple[str, str]:
    pattern, equals, type_ = text.rpartition("=")
    if not equals or not pattern or not type_:
        raise UsageError(f"--tensor-type {text!r}: write it like attn_v=Q6_K, a regular expression and a type")
    return pattern, type_


def _threads(options: argparse.Namespace) -> int:
    return getattr(options, "threads", None) or len(os.sched_getaffinity(0))


@contextmanager
def _progress(title: str) -> Iterator[Progress]:
    """A bar by bytes on a terminal, silence elsewhere."""
    if not sys.stderr.isatty():
        yield silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn(title), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task(title, total=None)
        yield lambda done, total: bars.update(bar, completed=done, total=total)
