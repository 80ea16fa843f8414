"""`quantmill init`: write a recipe for a base, or one that makes a release that exists, and a project around it."""

import argparse
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from quantmill.commands.common import (
    MARKS,
    bar,
    existing,
    file_path,
    followed,
    parallel,
    place,
    project,
    say,
    threads,
    words,
)
from quantmill.commands.new_base import check, look_at
from quantmill.errors import UsageError

if TYPE_CHECKING:
    from quantmill.recipe.new_recipe import Outline


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    from quantmill.commands.common import add_tag

    parser.add_argument("name", nargs="?", metavar="NAME", help="the recipe's, and a new project's folder's")
    parser.add_argument(
        "--base", type=place, metavar="BASE", help="a GGUF file, a model's folder, or OWNER/NAME of the Hub"
    )
    parser.add_argument(
        "--from",
        dest="release",
        type=place,
        metavar="RELEASE",
        help="write the recipe that makes this file, folder, or repository of the Hub",
    )
    parser.add_argument("--model", type=words, metavar="NAME", help="which of several models RELEASE holds")
    parser.add_argument("--imatrix", type=file_path, metavar="FILE", help="the importance matrix of RELEASE")
    parser.add_argument(
        "--pre-tokenizer", type=words, metavar="NAME", help="llama.cpp's name for the tokenizer's pattern, if not known"
    )
    text = "write a GitHub workflow into the project: plans on pull requests, releases from git tags; without NAME"
    parser.add_argument("--ci", action="store_true", help=text)
    parser.add_argument("--threads", type=parallel, metavar="N", help="threads (all cores)")
    add_tag(parser, "whose files the release's are to be")


def run(options: argparse.Namespace) -> int:
    """Exit code 0, or an error."""
    from quantmill.disk import write_atomic
    from quantmill.recipe.new_recipe import TEXTS, brought, check_name, project_files
    from quantmill.recipe.recipe import parse

    name, root = options.name, project()
    if options.ci:
        return _ci(options, root)
    if name is None:
        raise UsageError("NAME is required; give the name of the recipe to write, or --ci for a project's workflow")
    check_name(name)
    if options.base is None and options.release is None:
        raise UsageError("--base is missing; give a GGUF file, a model's folder or OWNER/NAME of the Hub")
    files: dict[str, str | bytes] = {}
    if not any((root / mark).exists() for mark in MARKS):
        root = Path.cwd() / name
        if root.exists() and not (root.is_dir() and not any(root.iterdir())):
            raise UsageError(f"{name}: it exists, and nothing is overwritten; give another name, or remove it")
        files |= project_files(name)
    recipe = root / "recipes" / f"{name}.toml"
    for path in (recipe, recipe.with_suffix(".lock")):
        if path.exists():
            raise UsageError(f"{path}: it exists, and nothing is overwritten; give another name, or remove it")
    outline = _for_base(options, recipe.parent) if options.release is None else _of_release(options, recipe.parent)
    if outline.calibration:
        texts = [text for text in TEXTS if not (recipe.parent / text).exists()]
        files |= {f"recipes/{text}": brought(text).read_bytes() for text in texts}
    files[f"recipes/{name}.toml"] = text = outline.text()
    parse(recipe, text)
    check(outline, recipe.parent)
    with _all_or_none(root, files):
        for file, data in files.items():
            write_atomic(root / file, data if isinstance(data, bytes) else data.encode())
    say(*(_shown(root / file) for file in files))
    where = "" if root == project() else f" -C {_shown(root)}"
    say(f"next: quantmill{where} plan {name}")
    return 0


def _ci(options: argparse.Namespace, root: Path) -> int:
    """Write the project's workflow. UsageError beside anything that is of a recipe."""
    from quantmill.commands.workflow import write_workflow

    of_recipe = ("name", "base", "release", "model", "imatrix", "pre_tokenizer", "llama_cpp", "threads")
    if any(getattr(options, name) is not None for name in of_recipe):
        raise UsageError("--ci is of a project and no recipe; call it alone")
    say(_shown(write_workflow(root)), "next: commit it, and give its environment 'release' the secrets that it names")
    return 0


@contextmanager
def _all_or_none(root: Path, names: Iterable[str]) -> Iterator[None]:
    """Of files that are not there yet below `root`, none is left where not all could be written, nor their folders."""
    folders = [folder for folder in (root / "recipes", root) if not folder.exists()]
    try:
        yield
    except BaseException:
        for name in names:
            (root / name).unlink(missing_ok=True)
        for folder in folders:
            with suppress(OSError):  # not there, or somebody else has written in it
                folder.rmdir()
        raise


def _shown(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) and path != here else path)


def _for_base(options: argparse.Namespace, folder: Path) -> "Outline":
    from quantmill.recipe.new_recipe import Outline, base_of

    if options.imatrix:
        raise UsageError("--imatrix is for --from; without it the matrix is measured on a text (recipes/README.md)")
    if options.model:
        raise UsageError("--model is for --from, which may hold several; leave it out")
    tag, _ = followed(options)
    outline = Outline(options.name, tag, base_of(options.base, folder), is_first=True)
    _name_pre_tokenizer(outline, options)
    problem = look_at(outline, folder)
    if problem:
        from quantmill.reference.ftypes import FTYPES, STANDARD_MATRIX

        outline.matrix = [name for name in STANDARD_MATRIX if not FTYPES[name].needs_imatrix]
        outline.say("quants", f"No importance matrix: {problem}.")
        return outline
    outline.say("quants", 'The base\'s own file and the 26 usual ones; or a list, such as ["Q8_0", "Q4_K_M"].')
    _measured(outline)
    return outline


def _name_pre_tokenizer(outline: "Outline", options: argparse.Namespace) -> None:
    from quantmill.recipe.team_tags import reference_of

    if options.pre_tokenizer and "gguf" in outline.base:
        raise UsageError("--pre-tokenizer is for a base that is converted; leave it out, a GGUF file names its own")
    if options.pre_tokenizer:
        reference_of(outline.tag, project()).check_pre_tokenizer(options.pre_tokenizer)
        outline.base = {**outline.base, "pre_tokenizer": options.pre_tokenizer}


def _measured(outline: "Outline") -> None:
    """With an importance matrix that the build measures, and an evaluation."""
    from quantmill.recipe.new_recipe import TEXTS

    outline.calibration = {"text": TEXTS[0]}
    outline.evaluation = {**(outline.evaluation or {}), "text": TEXTS[1], "chunks": 20}
    outline.say(
        "calibration", "The importance matrix is measured on this general text; one like the model's use serves better."
    )
    outline.say("evaluation", "On this text each file is measured against the base.")


def _of_release(options: argparse.Namespace, folder: Path) -> "Outline":
    from quantmill.commands.derived_recipe import derive

    tag = followed(options) if options.llama_cpp else None
    imatrix = existing(options.imatrix) if options.imatrix else None
    with bar(f"look at {options.release}", "files") as progress:
        found = derive(options.release, options.base, imatrix, tag, threads(options), progress, options.model)
    outline = found.outline(options.name, folder)
    _name_pre_tokenizer(outline, options)
    problem = look_at(outline, folder)
    if problem and outline.calibration:
        raise UsageError(f"{problem}, and the release's importance matrix is not at hand; give it by --imatrix")
    return outline
