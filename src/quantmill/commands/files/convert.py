"""`quantmill convert`: convert a model in Hugging Face layout to GGUF."""

import argparse
import sys
from pathlib import Path

from quantmill.artifact import Context
from quantmill.commands.common import add_tag, bar, file_path, folder_path, followed, say, threads, told_of, words
from quantmill.errors import UsageError, apart
from quantmill.output_file import check_output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("source", type=folder_path, metavar="DIR")
    parser.add_argument("target", type=file_path, metavar="OUT.gguf")
    types = ("BF16", "F16", "F32", "AUTO")
    parser.add_argument(
        "--type", choices=types, type=str.upper, help="AUTO, the default from b7830 on: as the weights are"
    )
    add_tag(parser, "whose converter to follow")
    parser.add_argument("--name", type=words, metavar="TEXT", help="the model's name (the folder's)")
    parser.add_argument("--pre-tokenizer", type=words, metavar="NAME", help="when the tokenizer's pattern is not known")
    parser.add_argument("--no-readme", action="store_true", help="leave the model's README.md out")


def run(options: argparse.Namespace) -> int:
    """Exit code 0, or an error."""
    from quantmill.architectures import configuration
    from quantmill.architectures.json_file import load_config, model_files
    from quantmill.checkpoint.contents import unread
    from quantmill.checkpoint.conversion import convert as write
    from quantmill.recipe.base_files import wanted

    folder: Path = options.source
    if folder.is_file():
        raise UsageError(f"{folder}: this is a file; give the folder of a model in Hugging Face layout")
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such folder; give a model in Hugging Face layout")
    check_output(options.target)
    names = wanted(str(folder), list(model_files(folder)), not options.no_readme)
    apart([options.target], [folder / name for name in names])
    name = options.name or folder.resolve().name
    _, reference = followed(options)
    notes: list[str] = []
    with bar(f"convert {options.target.name}") as progress, told_of(folder):
        made = write(
            {name: folder / name for name in names},
            options.target,
            options.type or reference.converter.out_type,
            name,
            options.pre_tokenizer,
            Context(threads=threads(options), progress=progress),
            place=str(options.target),
            reference=reference,
            notes=notes,
            source=str(folder),
        )
    if infinite := made.infinite:
        more = f" and {len(infinite) - 1} more tensors" if len(infinite) > 1 else ""
        said = f"{infinite[0]}{more} has weights that F16 does not hold (above 65504), which are infinite there"
        say(f"quantmill: {options.target}: {said}; convert to BF16", file=sys.stderr)
    notes += unread(names)
    notes += configuration.notes(load_config({"config.json": folder / "config.json"}))
    say(*(f"note: {note}" for note in notes))
    say(f"{options.target}: {made.size} bytes")
    return 0
