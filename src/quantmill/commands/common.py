"""What several commands share."""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from quantmill.artifact import silent
from quantmill.errors import UsageError, built, printable
from quantmill.host import MOST_THREADS, usable_threads
from quantmill.store.remote.settings import PublicKey, parse_public, signing
from quantmill.units import parse_size

if TYPE_CHECKING:
    from quantmill.reference.reference import Reference

MARKS = ("dodo.py", "quantmill.toml", "recipes")  # one of them stands in the folder of a project
DIGITS = 15  # of a number that somebody means
Progress = Callable[[int, int], None]


def say(*lines: str, file: TextIO | None = None) -> None:
    """Print each line so that no terminal obeys what a file or a stranger named in it; to stdout, or `file`."""
    try:
        for line in lines:
            print(printable(line), file=file, flush=True)
    except OSError as error:  # of no file that the caller has in hand
        error.filename = "stderr" if file is sys.stderr else "stdout"
        raise


def say_json(data: Any, indent: int | None = 1) -> None:
    """Print JSON; what cannot be printed in its texts is escaped as JSON escapes it."""
    import json

    def escaped(c: str) -> str:
        return json.dumps(c)[1:-1] if ord(c) > 0xFFFF else f"\\u{ord(c):04x}"

    text = json.dumps(data, indent=indent, ensure_ascii=False)
    print("".join(c if c.isprintable() or c == "\n" else escaped(c) for c in text))


def positive(text: str) -> int:
    if text.isdecimal() and len(text) > DIGITS:
        raise argparse.ArgumentTypeError(f"{text[:DIGITS]}… is too large a number")
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


def parallel(text: str) -> int:
    """Threads, tasks or processes at a time."""
    if (found := positive(text)) > MOST_THREADS:
        raise argparse.ArgumentTypeError(f"{text} are too many at a time; at most {MOST_THREADS} would do")
    return found


def size(text: str) -> int:
    """Bytes of a size like 50GB."""
    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def file_path(text: str) -> Path:
    """A file that the call names; UsageError for a path that ends like a folder's and is none's. No Path keeps that."""
    if not text:  # a shell's variable that is not set, say; a Path would be the folder stood in
        raise UsageError("'' is no path; give the path of a file")
    path = Path(text)
    if text.endswith(("/", "/.")) and not path.is_dir():
        raise UsageError(f"{text}: there is no such folder; a file's path does not end in /")
    return path


def folder_path(text: str) -> Path:
    """A folder that the call names; UsageError for an empty path, which would be the folder stood in."""
    if not text:
        raise UsageError("'' is no path; give the path of a folder, or . for the one that you stand in")
    return Path(text)


def words(text: str) -> str:
    """Words of the call that a file or a message will hold: some, in one line."""
    if not text.strip() or not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text!r} is empty or has characters that cannot be shown; give one line")
    return text


def place(text: str) -> str:
    """A file, a folder or a repository that the call names, or an address."""
    if text.startswith(("http://", "https://")):
        return words(text)
    file_path(text)
    return text


def base_place(text: str) -> str:
    """The same of an option, in one line."""
    return place(words(text))


def existing(path: Path) -> Path:
    if path.is_dir():
        hint = "convert it first, or give" if (path / "config.json").is_file() else "give"
        raise UsageError(f"{path}: this is a folder; {hint} the path of a GGUF file")
    if not path.is_file():
        what = "this is no file" if path.exists() else f"there is no such file{built(path)}"
        raise UsageError(f"{path}: {what}; give the path of a GGUF file")
    return path


@contextmanager
def told_of(model: Path, *others: Path) -> Iterator[None]:
    """Errors of a model in a folder, which name the file there, begin with the folder, if not with one of `others`."""
    from quantmill.architectures.errors import ModelError
    from quantmill.checkpoint.safetensors import WeightsError

    try:
        yield
    except (ModelError, WeightsError) as error:
        said = str(error)
        if model.is_dir() and not said.startswith(tuple(f"{path}:" for path in (model, *others))):
            error.args = (f"{model}: {said}",)
        raise


def threads(options: argparse.Namespace) -> int:
    return getattr(options, "threads", None) or usable_threads()


def project() -> Path:
    """The project that the call is for: the nearest folder upward that holds one of MARKS, else the one stood in."""
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if any((folder / mark).exists() for mark in MARKS)), here)


def recipe_file(name: str) -> Path:
    """The file of a recipe: the path `name` from where the user stands, or the project's recipe of that name."""
    from quantmill.recipe.recipe import find

    return find(name, Path(os.path.relpath(project())))


def add_tag(parser: argparse.ArgumentParser, text: str) -> None:
    """--llama-cpp, whose value `followed` takes."""
    from quantmill.reference.spans import newest_tag

    newest = f"the newest: {newest_tag()}, or one admitted here"
    parser.add_argument("--llama-cpp", type=words, metavar="TAG", help=f"{text} ({newest})")


def followed(options: argparse.Namespace) -> "tuple[str, Reference]":
    """The tag of --llama-cpp, or the newest, and its reference."""
    from quantmill.recipe.team_tags import reference_of
    from quantmill.reference.admissions import of_folder
    from quantmill.reference.spans import newest_tag

    tag = options.llama_cpp or newest_tag(of_folder(project()))
    return tag, reference_of(tag, project())


def activation_bits(parser: argparse.ArgumentParser) -> None:
    """--activation-bits, of what runs a model."""
    parser.add_argument(
        "--activation-bits",
        type=int,
        choices=(8, 16),
        default=16,
        help="of each activation beside quantized weights (16; llama.cpp takes 8, which is faster and less exact)",
    )


def add_key(parser: argparse.ArgumentParser) -> None:
    """--key, whose values `signed` takes."""
    parser.add_argument(
        "--key",
        action="append",
        type=_public,
        metavar="ed25519:…",
        help="the release must be signed by this key (those of quantmill.toml, where it is signed)",
    )


def _public(text: str) -> PublicKey:
    try:
        return PublicKey(text, parse_public(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def signed(tree: Path, given: list[PublicKey] | None) -> str:
    """Who signed the release in `tree`, as signature.check says it."""
    from quantmill.store.remote.signature import check

    return check(tree, given or signing(project()).keys, needed=bool(given))


@contextmanager
def bar(title: str, counts: str = "") -> Iterator[Progress]:
    """A bar on a terminal, silence elsewhere. It counts bytes, or what `counts` names."""
    if not sys.stderr.isatty():
        yield silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    label = TextColumn("{task.description}", markup=False)
    amount = (
        (TextColumn("{task.completed} of {task.total} " + counts),)
        if counts
        else (DownloadColumn(), TransferSpeedColumn())
    )
    columns = (label, BarColumn(), *amount, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(printable(title), total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


@contextmanager
def layer_bar(title: str) -> Iterator[tuple[Progress, Progress]]:
    """Progress of passes through a model's layers: told the chunks and tokens first, then done and total passes of
    chunks. A bar with the time left on a terminal; elsewhere a line for a layer, at most every ten seconds."""
    chunks = 1
    if not sys.stderr.isatty():
        began = last = time.monotonic()

        def line(done: int, total: int) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= 10 and done % chunks == 0:
                last = now
                left = (now - began) / done * (total - done)
                say(f"{title}: layer {done // chunks} of {total // chunks}, {left:.0f} s left", file=sys.stderr)

        def begin(count: int, tokens: int) -> None:
            nonlocal chunks
            chunks = count
            say(f"{title}: {count} chunks, {tokens} tokens", file=sys.stderr)

        yield begin, line
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("layer {task.fields[layer]} of {task.fields[layers]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(printable(title), total=None, layer=0, layers="?")

        def announce(count: int, tokens: int) -> None:
            nonlocal chunks
            chunks = count

        def advance(done: int, total: int) -> None:
            bars.update(task, completed=done, total=total, layer=done // chunks, layers=total // chunks)

        yield announce, advance
