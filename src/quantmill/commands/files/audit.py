"""`quantmill audit`: whether files that anybody made are what quantizing their base gives."""

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from quantmill.commands.common import bar, existing, file_path, parallel, place, project, say, say_json, threads, words
from quantmill.errors import UsageError
from quantmill.output_file import check_output, write_output

if TYPE_CHECKING:
    from quantmill.audit.verdict import FileVerdict

SHOWN = 20  # tensors of one word that are told one by one


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "release",
        type=place,
        metavar="FILE.gguf|DIR",
        help="a file, the first shard of one, a folder; of a sample, also elsewhere",
    )
    parser.add_argument("--base", type=place, required=True, metavar="BASE.gguf", help="what it is to be made of")
    parser.add_argument("--imatrix", type=file_path, metavar="FILE", help="the importance matrix that it was made with")
    parser.add_argument("--tag", type=words, metavar="TAG", help="the llama.cpp that is to have written it (found out)")
    parser.add_argument(
        "--sample", type=_share, metavar="PERCENT", help="read such a part of each tensor's rows, as 2%%"
    )
    parser.add_argument("--seed", type=_seed, metavar="N", help="which rows a sample reads (0)")
    parser.add_argument("--threads", type=parallel, metavar="N", help="threads (all cores)")
    parser.add_argument("--all", action="store_true", help="tell of each tensor, also of those that are the same")
    parser.add_argument(
        "--json", type=file_path, nargs="?", const=Path("-"), metavar="FILE", help="write what was found (to stdout)"
    )


def run(options: argparse.Namespace) -> int:
    """Exit code 0, 1 where something is changed, 3 where something could not be told, or an error."""
    from quantmill.audit.file_audit import AuditOptions, audit_file
    from quantmill.audit.release_files import models_in
    from quantmill.audit.remote_source import is_remote
    from quantmill.audit.row_sample import RowSample
    from quantmill.audit.statement import statement
    from quantmill.audit.verdict import exit_code
    from quantmill.errors import apart
    from quantmill.gguf.shard_set import shards_of
    from quantmill.recipe.team_tags import reference_of

    if options.seed is not None and options.sample is None:
        raise UsageError("--seed is for a sample; give --sample too")
    release: str = options.release
    files = [str(path) for path in models_in(Path(release))] if Path(release).is_dir() else [release]
    base: str = options.base
    here = [Path(name) for name in (*files, base) if Path(name).exists() or not is_remote(name)]
    for path in here:
        existing(path)
    imatrix = existing(options.imatrix) if options.imatrix else None
    tag = reference_of(options.tag, project()) if options.tag else None
    to_stdout = options.json == Path("-")
    if options.json and not to_stdout:
        read = [*([imatrix] if imatrix else []), *(part for file in here for part in shards_of(file))]
        apart([check_output(options.json)], read)
    sample = RowSample(options.sample, options.seed or 0) if options.sample else None
    asked = AuditOptions(imatrix, tag, sample, threads(options))
    verdicts = []
    for file in files:
        with bar(f"audit {Path(file).name}") as progress:
            verdicts.append(audit_file(file, base, asked, progress))
        if not to_stdout:
            say(*_lines(verdicts[-1], options.all, sample))
    if options.json:
        stated = statement(verdicts, base, asked)
        if to_stdout:
            say_json(stated)
        else:
            write_output(options.json, json_bytes(stated))
    return exit_code({verdict.word for verdict in verdicts})


def json_bytes(data: object) -> bytes:
    """JSON in UTF-8 that ends a line."""
    import json

    return (json.dumps(data, indent=1) + "\n").encode()


def _lines(of: "FileVerdict", everything: bool, sample: object) -> list[str]:
    counts = ", ".join(f"{count} {word}" for word, count in of.counts.items())
    lines = [f"{of.name}: {of.word}", f"  {of.mix or 'no known mix'}; bytes of {of.tags}", f"  tensors: {counts}"]
    if sample:
        lines.append(
            f"  {of.rows} of {of.all_rows} rows were read: a change of one row in a thousand, wherever, is among them "
            f"with a chance of {of.chance:.4g} or more"
        )
    lines += [f"  {note}" for note in of.notes]
    for key in of.keys:
        lines += [f"  {key.word}: {key}", *(f"    {line}" for line in key.lines)]
    for word in of.counts:
        if word == "same" and not everything:
            continue
        tensors = [tensor for tensor in of.tensors if tensor.word == word]
        shown = tensors if everything or word == "changed" else tensors[:SHOWN]
        lines += [f"  {tensor}" for tensor in shown]
        if len(tensors) > len(shown):
            lines.append(f"  and {len(tensors) - len(shown)} more {word} (--all)")
    return lines


def _share(text: str) -> float:
    match = re.fullmatch(r"(\d{1,3}(?:\.\d{1,6})?)\s*%?", text)
    if not match or not 0 < float(match[1]) <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no part of the rows; write it like 2%")
    return float(match[1]) / 100


def _seed(text: str) -> int:
    if not re.fullmatch(r"\d{1,18}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no seed; write a number of at most 18 digits")
    return int(text)
