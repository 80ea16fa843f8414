"""`quantmill audit`: whether files that anybody made are what quantizing their base gives."""

import argparse
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantmill.commands.common import (
    bar,
    base_place,
    existing,
    file_path,
    parallel,
    place,
    project,
    say,
    say_json,
    threads,
    words,
)
from quantmill.errors import UsageError, listed
from quantmill.output_file import check_output, write_output

if TYPE_CHECKING:
    from quantmill.audit.release_files import AuditedRelease
    from quantmill.audit.remote_source import RemoteSource
    from quantmill.audit.verdict import FileVerdict
    from quantmill.gguf.source import Source

SHOWN, TOLD = 20, 100  # tensors of one word that are told one by one; notes, and changed entries


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "release",
        type=place,
        metavar="FILE.gguf|DIR|REPO|URL",
        help="a file, the first shard of one, a folder; of a sample, also OWNER/NAME of the Hub, or an address",
    )
    parser.add_argument(
        "--base",
        type=base_place,
        metavar="BASE",
        help="what it is to be made of: a GGUF file, a model's folder; of a sample, also elsewhere (what the release's "
        "card or metadata name)",
    )
    parser.add_argument(
        "--imatrix",
        type=file_path,
        metavar="FILE",
        help="the importance matrix it was made with (the one that lies beside)",
    )
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
    parser.add_argument("--html", type=file_path, metavar="FILE", help="write a page of it for people")


def run(options: argparse.Namespace) -> int:
    """Exit code 0, 1 where something is changed, 3 where something could not be told, or an error."""
    from quantmill.audit.audit_base import open_base
    from quantmill.audit.file_audit import AuditOptions, elsewhere, hold
    from quantmill.audit.release_files import each_open, find_release
    from quantmill.audit.row_sample import RowSample
    from quantmill.audit.statement import statement
    from quantmill.audit.verdict import exit_code
    from quantmill.recipe.team_tags import reference_of

    if options.seed is not None and options.sample is None:
        raise UsageError("--seed is for a sample; give --sample too")
    imatrix = existing(options.imatrix) if options.imatrix else None
    tag = reference_of(options.tag, project()) if options.tag else None
    sample = RowSample(options.sample, options.seed or 0) if options.sample else None
    release = find_release(options.release)
    if sample is None and (far := next((model for model in release.models if not isinstance(model, Path)), None)):
        raise elsewhere(far[0].place)
    base, named_by = (options.base, None) if options.base else release.named_base()
    to_stdout = options.json == Path("-")
    told: list[str] = [f"base {base}, named by {named_by}"] if named_by else []
    if imatrix is None:
        imatrix, called = release.imatrix()
        told += [f"imatrix {called}, found beside the release" if imatrix else called] * bool(called)
    written = [path for path in (None if to_stdout else options.json, options.html) if path]
    if written:
        _apart([*written, *_statements(None if to_stdout else options.json, options.html)], release, base, imatrix)
    if not to_stdout:
        say(*told)
    asked = AuditOptions(imatrix, tag, sample, threads(options))
    verdicts: list[FileVerdict] = []
    parts: list[list[tuple[str, str | None]]] = []
    audited: set[str] = set()
    with open_base(base, sample is None, on_hub=named_by is not None) as found:
        for file in each_open(release):
            with bar(f"audit {Path(file.files[0].place).name}") as progress:
                verdicts.append(hold(file, found.source, asked, progress, str(base)))
            if not to_stdout:
                say(*_lines(verdicts[-1], options.all, sample))
            audited.update(release.names(file))
            if written:
                parts.append(_parts(file, release, verdicts[-1], sample is not None))
        if others := release.others(audited):
            told.append(f"not audited, for they call themselves something else than a model: {listed(others)}")
            if not to_stdout:
                say(told[-1])
        stated = statement(verdicts, found, asked, named_by, others) if options.json or options.html else {}
    if to_stdout:
        say_json(stated)
    elif options.json:
        _record(options.json, stated, release, [*zip(verdicts, parts, strict=True)])
    if options.html:
        from quantmill.quality.audit_page import render_audit

        own = options.json.stem if options.json else ""
        page = render_audit(stated, told, _beside(release, own, dict(part for each in parts for part in each)))
        write_output(options.html, page.encode(errors="backslashreplace"))
    return exit_code({verdict.word for verdict in verdicts})


def _beside(release: "AuditedRelease", own: str, digests: dict[str, str | None]) -> list[str]:
    """What other audits than our `own` say of the release, in statements beside it."""
    from quantmill.release.audit_statements import ENDING, LIMIT, SEALED, FoundAudit, WrongStatement, read_beside
    from quantmill.store.remote.settings import signing

    known = {name: digest for name, digest in digests.items() if digest}
    names = [name for name in release.beside if name not in (own + ENDING, own + SEALED)]
    lines = []

    def fetch(name: str) -> bytes:
        return release.fetch(name).read_bytes() if release.beside[name] <= LIMIT else b""

    for found in read_beside(names, fetch, signing(project()).keys):
        try:
            lines.append(found.of(known) if isinstance(found, FoundAudit) else str(found))
        except WrongStatement as wrong:
            lines.append(str(wrong))
    return lines


def _statements(record: Path | None, page: Path | None) -> list[Path]:
    """What is written beside a record. Raises UsageError where the page would be written over one of them."""
    from quantmill.release.audit_statements import ENDING, SEALED

    if record is None or (record.exists() and not record.is_file()):  # stdout, or a device
        return []
    beside = [record.with_name(record.stem + ending) for ending in (ENDING, SEALED)]
    if page and os.path.realpath(page) in map(os.path.realpath, (record, *beside)):
        raise UsageError(f"--html {page}: --json writes this file; name another")
    return beside


def _apart(targets: list[Path], release: "AuditedRelease", base: str, imatrix: Path | None) -> None:
    """Raises UsageError where one of `targets` is a file that the call reads."""
    from quantmill.errors import apart
    from quantmill.gguf.shard_set import shards_of

    here = [model for model in release.models if isinstance(model, Path)]
    at = Path(base)
    parts = [part for file in (*here, *([at] if at.is_file() else ())) for part in shards_of(file)]
    inside = [file for file in at.iterdir() if file.is_file()] if at.is_dir() else []
    apart([check_output(target) for target in targets], [*([imatrix] if imatrix else []), *parts, *inside])


def _parts(
    file: "Source | RemoteSource", release: "AuditedRelease", verdict: "FileVerdict", is_part: bool
) -> list[tuple[str, str | None]]:
    """The names of the file's shards in their release, and the digests that the statement has of them."""
    from quantmill.audit.remote_source import RemoteSource
    from quantmill.disk import sha256_file

    if isinstance(file, RemoteSource):
        return [*zip(release.names(file), (digest for _, digest in file.listed), strict=True)]
    read = {} if is_part else dict(verdict.digests)
    paths = [part.path for part in file.files]
    return [
        (name, read.get(path.name) or sha256_file(path)) for name, path in zip(release.names(file), paths, strict=True)
    ]


def _record(
    target: Path,
    stated: dict[str, Any],
    release: "AuditedRelease",
    files: "list[tuple[FileVerdict, list[tuple[str, str | None]]]]",
) -> None:
    """Write audit.json, and the statement beside it."""
    from quantmill.release.audit_statements import Audited, put, resource_uri, summary
    from quantmill.store.remote.settings import signing

    data = json_bytes(stated)
    write_output(target, data)
    if not target.is_file():  # a device or a pipe, beside which nothing is to lie
        return
    named = [(name, digest, verdict.word) for verdict, parts in files for name, digest in parts]
    audited = [Audited(name, digest, word) for name, digest, word in named if digest]
    if len(audited) < len(named):
        say("no statement: the digests of the files are not known; download them, or name a repository of the Hub")
        return
    called = Path(release.place).name or "release"
    resource = resource_uri(release.place if release.commit else None, release.commit, called)
    written = put(target, summary(audited, resource, (target.name, data), stated), signing(project()))
    say(f"{target} and its statement {written.name}")


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
    lines += [f"  {note}" for note in of.notes[:TOLD]]
    lines += [f"  and {len(of.notes) - TOLD} more notes"] * (len(of.notes) > TOLD)
    for key in of.keys[:TOLD]:
        lines += [f"  {key.word}: {key}", *(f"    {line}" for line in key.lines)]
    lines += [f"  and {len(of.keys) - TOLD} more entries or tensors that are not the base's"] * (len(of.keys) > TOLD)
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
