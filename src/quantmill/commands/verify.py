"""`quantmill verify`: check a GGUF file or shards: structure, scales, digests."""

import argparse
import sys
from pathlib import Path

from quantmill.commands.common import bar, existing
from quantmill.errors import QuantmillError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE.gguf")
    parser.add_argument("--json", action="store_true")


def run(options: argparse.Namespace) -> int:
    """Exit code 0, or an error."""
    import json

    from quantmill.gguf.verifying import verify as check

    reports, failed = [], 0
    for path in options.files:
        try:
            with bar(f"verify {path.name}") as progress:
                report = check(existing(path), progress=progress)
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
