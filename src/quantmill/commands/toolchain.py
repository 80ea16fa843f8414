"""`quantmill toolchain TAG`: make the llama.cpp of a tag usable, for what our own code does not know."""

import argparse
import re
import sys

from quantmill.commands.common import file_path, folder_path, say, words
from quantmill.output_file import check_output_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("tag", type=words, metavar="TAG", help="b11739, v0.5.0: the tag that recipes name")
    text = "its sources: a folder, a tar or zip archive, or an address"
    parser.add_argument("--from", dest="source", type=words, required=True, metavar="DIR|ARCHIVE|URL", help=text)
    text = "a Python that has what its converter requires (an environment made for it, by pip)"
    parser.add_argument("--python", type=file_path, metavar="PATH", help=text)
    text = "a folder with its llama-imatrix and llama-quantize (built by cmake)"
    parser.add_argument("--tools", type=folder_path, metavar="DIR", help=text)
    text = "a definition for cmake, such as GGML_CUDA=ON; again for more"
    parser.add_argument("--cmake", type=words, action="append", default=[], metavar="NAME=VALUE", help=text)
    parser.add_argument("--only", choices=("converter", "tools"), help="make this alone usable")
    text = "where it is kept, for QUANTMILL_LLAMA_CPP to name (the user's cache)"
    parser.add_argument("--to", type=folder_path, metavar="DIR", help=text)


def run(options: argparse.Namespace) -> int:
    """Exit code 0, or an error."""
    from quantmill.errors import UsageError
    from quantmill.reference.admissions import TAG
    from quantmill.toolchain.installed import place
    from quantmill.toolchain.provision import Wanted, provision

    if not TAG.fullmatch(options.tag):
        raise UsageError(f"{options.tag!r} is not a llama.cpp tag such as b11739 or v0.5.0")
    if options.cmake and options.tools:
        raise UsageError("--cmake is for tools that are built, and --tools names ready ones; leave one out")
    for given, other, name in ((options.python, "tools", "--python"), (options.tools, "converter", "--tools")):
        if given and options.only == other:
            raise UsageError(f"{name} is not for --only {other}; leave one of the two out")
    if unnamed := [text for text in options.cmake if not re.fullmatch(r"\w+(:\w+)?=.*", text)]:
        raise UsageError(f"--cmake: {unnamed[0]!r} is no definition; write it like GGML_CUDA=ON")
    wanted = Wanted(
        options.source,
        options.only != "tools",
        options.only != "converter",
        options.python,
        options.tools,
        tuple(options.cmake),
    )
    folder = check_output_folder(options.to).absolute() if options.to else place(options.tag)
    found = provision(options.tag, folder, wanted, lambda text: say(f"{options.tag}: {text}", file=sys.stderr))
    say(f"{folder}: llama.cpp {found.tag}, sources {found.tree[:12]}")
    if found.python:
        versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
        say(f"converter: {found.python} ({versions})")
    if found.tools:
        say(f"tools: {found.tools} ({', '.join(found.backends)})")
    return 0
