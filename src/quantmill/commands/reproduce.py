"""`quantmill reproduce`: build a release again from the recipe in it, and compare every file."""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from quantmill.commands.common import (
    add_key,
    bar,
    folder_path,
    parallel,
    positive,
    project,
    say,
    say_json,
    signed,
    threads,
    words,
)
from quantmill.errors import UsageError

if TYPE_CHECKING:
    from quantmill.release.reproduction import Release


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    text = "a release's folder; a tag: of a release below release/, else of the git repository here; owner/name@tag"
    parser.add_argument("release", type=words, metavar="DIR|TAG", help=text)
    parser.add_argument(
        "--against", type=folder_path, metavar="DIR", help="compare with this folder what a git tag makes"
    )
    parser.add_argument(
        "--beside", type=folder_path, metavar="DIR", help="the recipe's folder, where its paths lead from"
    )
    parser.add_argument(
        "--work", type=folder_path, metavar="DIR", help="build in this new folder and keep it (a temporary one)"
    )
    text = "build and compare N files of weights alone, which the release's tag chooses"
    parser.add_argument("--sample", type=positive, metavar="N", help=text)
    parser.add_argument("-n", dest="jobs", type=parallel, default=1, metavar="N", help="tasks at a time (1)")
    parser.add_argument("--threads", type=parallel, metavar="N", help="threads of one task (all cores)")
    add_key(parser)
    parser.add_argument("--json", action="store_true")


def run(options: argparse.Namespace) -> int:
    """Exit code 0 when all is the same, 1 when anything differs, or an error."""
    from quantmill.release.reproduction import compare_files, compare_sample, rebuild, rebuild_sample, remark

    with _work_folder(options) as work, tempfile.TemporaryDirectory(prefix="inputs-", dir=work) as inputs:
        release = _find(options, project(), Path(inputs))
        who = signed(release.tree, options.key)
        call = (release, work, threads(options), options.jobs)
        sample: dict[str, Path] = {}
        with _aside() if options.json else nullcontext():
            if options.sample:
                sample = rebuild_sample(*call, options.sample)
            else:
                made = rebuild(*call)
        with bar("compare") as progress:
            compared = compare_sample(release, sample, progress) if sample else compare_files(release, made, progress)
            found = list(compared)
    if note := remark(release):
        say(f"quantmill: note: {note}", file=sys.stderr)
    wrong = [file for file in found if file.differences]
    if options.json:
        files = [{"name": file.name, "same": not file.differences, "differences": file.differences} for file in found]
        say_json({"tag": release.tag, "same": not wrong, "signature": who, "files": files})
        return 1 if wrong else 0
    for file in wrong:
        say(*(f"{file.name}: {difference}" for difference in file.differences))
    same, kind = len(found) - len(wrong), "sampled files" if sample else "files"
    say(f"{release.place}: {same} of {len(found)} {kind} are the same" + ("" if wrong else f", {release.tag}"))
    say(f"{release.place}: {who}")
    return 1 if wrong else 0


@contextmanager
def _work_folder(options: argparse.Namespace) -> Iterator[Path]:
    """The folder to build in, apart from the releases that are named by their folders or tags."""
    from quantmill.release.reproduction import locate, occupy

    if options.work is None:
        with tempfile.TemporaryDirectory(prefix="quantmill-") as temporary:
            yield Path(temporary)
        return
    occupy(options.work, filter(None, (options.against, locate(options.release, project()))))
    yield options.work


def _find(options: argparse.Namespace, root: Path, inputs: Path) -> "Release":
    from quantmill.release.git_tag import from_git, from_hub
    from quantmill.release.reproduction import load, locate

    repo, at, tag = options.release.rpartition("@")
    if options.against is not None and (at or Path(options.release).is_dir()):
        raise UsageError("--against is the folder that a git tag's release is in; name the tag alone beside it")
    tree = None if options.against else locate(options.release, root)
    if tree is not None:
        return load(tree, options.beside, root)
    if at:
        return from_hub(repo, tag, options.beside, root, inputs)
    return from_git(options.release, options.beside, options.against, root, inputs)


@contextmanager
def _aside() -> Iterator[None]:
    """The build's lines go to stderr, so that stdout holds the result alone."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
        sys.stdout.flush()
    finally:
        os.dup2(kept, 1)
        os.close(kept)
