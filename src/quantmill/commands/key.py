"""`quantmill key new FILE`: make a key pair that signs records of a shared store."""

import argparse

from quantmill.commands.common import file_path, say, words
from quantmill.errors import UsageError
from quantmill.output_file import check_output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    text = "Make a key pair: the secret half goes to FILE, the public half is printed for quantmill.toml."
    new = actions.add_parser("new", help=text, description=text, allow_abbrev=False)
    new.add_argument("file", type=file_path, metavar="FILE")
    new.add_argument("--name", type=words, metavar="TEXT", help="what messages call the key (the file's name)")


def run(options: argparse.Namespace) -> int:
    """Exit code 0, or an error."""
    import json

    from quantmill.store.remote.settings import format_public
    from quantmill.store.remote.trust import new_key

    if not options.file.exists():
        check_output(options.file, makes_folder=True)
    try:
        public = new_key(options.file)
    except FileExistsError:
        raise UsageError(f"{options.file}: this file exists; a key is never written over") from None
    name = options.name or options.file.stem
    say("[[store.key]]", f"name = {json.dumps(name)}", f"public = {json.dumps(format_public(public))}")
    return 0
