"""`quantmill reproduce`: build a release again from the recipe in it, and compare every file."""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from quantmill.commands.common import add_key, bar, positive, signed, threads


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("release", metavar="DIR|TAG", help="a release's folder, or the tag of one below release/")
    parser.add_argument("--beside", type=Path, metavar="DIR", help="the recipe's folder, where its paths lead from")
    parser.add_argument("--work", type=Path, metavar="DIR", help="build there and keep it (a temporary folder)")
    parser.add_argument("-n", dest="jobs", type=positive, default=1, metavar="N", help="tasks at a time (1)")
    parser.add_argument("--threads", type=positive, metavar="N", help="threads of one task (all cores)")
    add_key(parser)
    parser.add_argument("--json", action="store_true")


def run(options: argparse.Namespace) -> int:
    """Exit code 0 when all is the same, 1 when anything differs, or an error."""
    import json

    from quantmill.reproduce import compared, load, locate, rebuild, remark

    release = load(locate(options.release, Path.cwd()), options.beside, Path.cwd())
    who = signed(release.tree, options.key)
    with tempfile.TemporaryDirectory(prefix="quantmill-") as temporary:
        with _aside() if options.json else nullcontext():
            made = rebuild(release, options.work or Path(temporary), threads(options), options.jobs)
        with bar("compare") as progress:
            found = list(compared(release, made, progress))
    if note := remark(release):
        print(f"quantmill: note: {note}", file=sys.stderr)
    wrong = [file for file in found if file.differences]
    if options.json:
        files = [{"name": file.name, "same": not file.differences, "differences": file.differences} for file in found]
        print(
            json.dumps(
                {"tag": release.tag, "same": not wrong, "signature": who, "files": files}, indent=1, ensure_ascii=False
            )
        )
        return 1 if wrong else 0
    for file in wrong:
        print("\n".join(f"{file.name}: {difference}" for difference in file.differences))
    same = len(found) - len(wrong)
    print(f"{release.tree}: {same} of {len(found)} files are the same" + ("" if wrong else f", {release.tag}"))
    print(f"{release.tree}: {who}")
    return 1 if wrong else 0


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
