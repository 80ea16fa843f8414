"""`quantmill diff`: in what two GGUF files differ."""

import argparse

from quantmill.commands.common import bar, existing, file_path, say, say_json
from quantmill.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("first", type=file_path, metavar="A.gguf")
    parser.add_argument("second", type=file_path, metavar="B.gguf")
    parser.add_argument("--json", action="store_true")


def run(options: argparse.Namespace) -> int:
    """Exit code 0 when they are the same, 1 when they differ, or an error."""
    from quantmill.gguf.comparison import compare

    if options.first.is_dir() and options.second.is_dir():
        raise UsageError(f"{options.first}: this is a folder; diff is of two files, quantmill report of two releases")
    with bar("diff") as progress:
        found = compare(existing(options.first), existing(options.second), progress=progress)
    if options.json:
        say_json([vars(difference) for difference in found])
    else:
        say(*(map(str, found) if found else ["the same"]))
    return 1 if found else 0
