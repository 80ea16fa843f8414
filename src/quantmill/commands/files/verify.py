"""`quantmill verify`: check a GGUF file or shards, or a release's folder: structure, scales, digests, signature."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from quantmill.commands.common import add_key, bar, existing, file_path, project, say, say_json, signed
from quantmill.errors import QuantmillError, UsageError
from quantmill.store.remote.settings import signing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "files", type=file_path, nargs="+", metavar="FILE.gguf|DIR", help="files, or a release's folder"
    )
    add_key(parser)
    parser.add_argument("--json", action="store_true")


def run(options: argparse.Namespace) -> int:
    """Exit code 0, or an error."""
    from quantmill.gguf.errors import GGUFError

    if options.key and not all(path.is_dir() for path in options.files):
        raise UsageError("--key is for the folders of releases; a file of its own has no signature")
    reports: list[Any] = []
    failed = 0
    for path in options.files:
        for line in _lines(path, options, reports):
            if isinstance(line, QuantmillError):
                say(f"quantmill: {line}", file=sys.stderr)
                failed = max(failed, 1 if isinstance(line, GGUFError) else line.exit_code)  # what it looks for
            elif not options.json:
                say(line)
    if options.json:
        say_json(reports)
    return failed


def _lines(path: Path, options: argparse.Namespace, reports: list[Any]) -> Iterator[str | QuantmillError]:
    """What is to be told of one file or folder; its report is added to `reports`."""
    try:
        yield from _release(path, options, reports) if path.is_dir() else _file(path, reports)
    except QuantmillError as error:
        yield error


def _file(path: Path, reports: list[Any]) -> Iterator[str]:
    from quantmill.gguf.known_names import note, vocabulary_notes
    from quantmill.gguf.verification import verify
    from quantmill.reference.spans import offered

    with bar(f"verify {path.name}") as progress:
        report = verify(existing(path), progress=progress)
    _loadable(path)
    reports.append(report.to_json())
    for file in report.files:
        yield f"{file.sha256}  {file.name}  {file.size} bytes, {file.tensors} tensors: whole"
    if found := note(path):
        yield found
    yield from vocabulary_notes(path, offered()[-1].known_tokenizers)


def _loadable(path: Path) -> None:
    """Raises NotLoadable for a whole model, the file or all of its shards, that llama.cpp refuses."""
    from quantmill.architectures.loading import check_loadable
    from quantmill.gguf.shard_set import shards_of
    from quantmill.gguf.verification import headers

    check_loadable(str(path), *headers(shards_of(path)))


def _release(tree: Path, options: argparse.Namespace, reports: list[Any]) -> Iterator[str | QuantmillError]:
    from quantmill.gguf.known_names import note
    from quantmill.listing import IMATRIX_ENDING
    from quantmill.release.release_check import check_release
    from quantmill.store.remote.signature import STATEMENT

    if not (tree / STATEMENT).exists() and _statements(tree):
        yield from _strangers(tree, options, reports)
        return
    files, wrong = [], 0
    with bar(f"verify {tree}") as progress:
        for file in check_release(tree, progress):
            if file.problem:
                wrong += 1
                yield file.problem
            else:
                yield f"{file.sha256}  {file.name}  {file.size} bytes: whole"
                files.append({"name": file.name, "size": file.size, "sha256": file.sha256})
                if file.name.endswith(".gguf") and not file.name.endswith(IMATRIX_ENDING):
                    _loadable(tree / file.name)
                    if found := note(tree / file.name):
                        yield found
    who = signed(tree, options.key)
    if not wrong:
        yield f"{tree}: {len(files)} files, each as its {STATEMENT} says"
    yield f"{tree}: {who}"
    report = {"release": str(tree), "files": files, "signature": who}
    reports.append(report)
    yield from _audits(tree, {str(file["name"]): str(file["sha256"]) for file in files}, options, report)


def _statements(tree: Path) -> list[Path]:
    """The statements of audits that lie in a folder."""
    from quantmill.release.audit_statements import ENDING, SEALED

    return [path for path in sorted(tree.iterdir()) if path.name.endswith((ENDING, SEALED)) and path.is_file()]


def _strangers(tree: Path, options: argparse.Namespace, reports: list[Any]) -> Iterator[str | QuantmillError]:
    """Of a folder that is no release of ours: its models' digests, and whether they are those that were audited."""
    from quantmill.audit.release_files import models_in
    from quantmill.disk import sha256_file
    from quantmill.gguf.shard_set import shards_of

    digests = {}
    for path in (part for model in models_in(tree) for part in shards_of(model)):
        digests[path.relative_to(tree).as_posix()] = sha256_file(path)
        yield f"{digests[path.relative_to(tree).as_posix()]}  {path.relative_to(tree).as_posix()}"
    report: dict[str, Any] = {"release": str(tree), "files": [{"name": n, "sha256": d} for n, d in digests.items()]}
    reports.append(report)
    yield from _audits(tree, digests, options, report)


def _audits(
    tree: Path, digests: dict[str, str], options: argparse.Namespace, report: dict[str, Any]
) -> Iterator[str | QuantmillError]:
    """What auditors say of the files, in statements that lie beside them."""
    from quantmill.release.audit_statements import FoundAudit, WrongStatement, read_beside

    found = {path.name: path for path in _statements(tree)}
    if not found:
        return
    keys = [*(options.key or ()), *signing(project()).keys]
    report["audits"] = []
    for audit in read_beside(found, lambda name: _first(found[name]), keys):
        if not isinstance(audit, FoundAudit):
            yield audit
            continue
        try:
            yield f"{tree}: {audit.of(digests)}"
            report["audits"].append(audit.to_json())
        except WrongStatement as wrong:
            yield wrong


def _first(path: Path) -> bytes:
    from quantmill.release.audit_statements import LIMIT

    with path.open("rb") as file:
        return file.read(LIMIT + 1)
