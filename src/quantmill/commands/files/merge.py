"""`quantmill merge`: put shards together again, as llama-gguf-split does."""

import argparse

from quantmill.commands.common import bar, existing, file_path, say
from quantmill.output_file import check_output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("source", type=file_path, metavar="SHARD.gguf", help="any shard; the others lie beside it")
    parser.add_argument("target", type=file_path, metavar="OUT.gguf")


def run(options: argparse.Namespace) -> int:
    """Exit code 0, or an error."""
    from quantmill.gguf import merge as join

    source = existing(options.source)
    check_output(options.target, makes_folder=True)
    with bar(f"merge {options.target.name}") as progress:
        say(str(join(source, options.target, progress=progress)))
    return 0
