"""`quantmill diff`: in what two GGUF files differ."""

import argparse
from pathlib import Path

from quantmill.commands.common import bar, existing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("first", type=Path, metavar="A.gguf")
    parser.add_argument("second", type=Path, metavar="B.gguf")
    parser.add_argument("--json", action="store_true")


def run(options: argparse.Namespace) -> int:
    """Exit code 0 when they are the same, 1 when they differ, or an error."""
    import json

    from quantmill.gguf.comparison import compare

    with bar("diff") as progress:
        found = compare(existing(options.first), existing(options.second), progress=progress)
    if options.json:
        print(json.dumps([vars(difference) for difference in found], indent=1, ensure_ascii=False))
    else:
        print("\n".join(map(str, found)) or "the same")
    return 1 if found else 0
