"""`quantmill split`: cut a GGUF file into shards, as llama-gguf-split does."""

import argparse
import sys
from pathlib import Path

from quantmill.commands.common import bar, existing, file_path, folder_path, positive, say, size, words
from quantmill.errors import UsageError
from quantmill.output_file import check_output_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("source", type=file_path, metavar="IN.gguf")
    parser.add_argument("folder", type=folder_path, metavar="DIR")
    limit = parser.add_mutually_exclusive_group()
    limit.add_argument(
        "--max-size",
        "--split-max-size",
        type=size,
        default="50GB",
        metavar="SIZE",
        help="of one shard's tensors (50GB)",
    )
    limit.add_argument(
        "--max-tensors", "--split-max-tensors", type=positive, metavar="N", help="tensors of one shard, whatever size"
    )
    parser.add_argument("--prefix", type=words, metavar="TEXT", help="of the shards' names (the file's)")


def run(options: argparse.Namespace) -> int:
    """Exit code 0, or an error."""
    from quantmill import gguf
    from quantmill.gguf import split as cut
    from quantmill.gguf.errors import shown

    if options.prefix is not None and Path(options.prefix).name != options.prefix:
        raise UsageError(f"--prefix {options.prefix!r}: shards' names begin with it; give a name without a folder")
    source = existing(options.source)
    check_output_folder(options.folder)
    prefix = options.prefix or options.source.stem
    with bar(f"split {options.source.name}") as progress:
        paths = cut(
            source,
            options.folder,
            prefix,
            max_size=None if options.max_tensors else options.max_size,
            max_tensors=options.max_tensors,
            progress=progress,
        )
    for path in paths:
        say(str(path))
    for path in paths if options.max_tensors is None else []:
        with gguf.read(path) as shard:
            name, size = next(((info.name, info.nbytes) for info in shard.tensors.values()), ("", 0))
        if size > options.max_size:  # as llama-gguf-split writes it
            text = f"the tensor {shown(name)} of {size} bytes is larger than --max-size, and so is its shard"
            say(f"quantmill: note: {path}: {text}", file=sys.stderr)
    return 0
