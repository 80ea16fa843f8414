"""The base of a recipe that is about to be written: looked at so that the recipe has a plan, or is refused."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantmill.commands.common import project
from quantmill.errors import UsageError

if TYPE_CHECKING:
    from quantmill.recipe.lock import Lock
    from quantmill.recipe.new_recipe import Outline

_LEAST = ["Q8_0"]  # a matrix that any base has


def look_at(outline: "Outline", folder: Path) -> str:
    """Say in the outline of a recipe in `folder` what its base needs; the reason, where no forward pass of it can be
    run. Raises for a base of which nothing can be made."""
    return _gguf(outline, folder) if "gguf" in outline.base else _model(outline, folder)


def check(outline: "Outline", folder: Path) -> None:
    """Raises what a plan of the finished recipe would. One of the Hub's models was looked at before."""
    if "repo" not in outline.base:
        _trial(outline, folder)


def _gguf(outline: "Outline", folder: Path) -> str:
    from quantmill.engine.suitability import base_notes, incomputable
    from quantmill.gguf import read
    from quantmill.recipe.base_table import BASE_TYPES
    from quantmill.reference.base_type import base_type

    base = os.path.relpath(folder.resolve() / outline.base["gguf"])
    with read(base) as file:
        number = file.metadata["general.file_type"].value if "general.file_type" in file.metadata else None
        metadata, tensors = file.metadata, file.tensor_entries()
    for note in base_notes(base, outline.tag, metadata, tensors):
        outline.say("base", note)
    if (found := base_type(tensors, number)) not in BASE_TYPES:
        outline.base = {**outline.base, "allow_requantize": True}
        outline.say("base", f"It is quantized already ({found}), which loses quality twice; take its F16 or BF16 file.")
    return incomputable(base, metadata, tensors)


def _model(outline: "Outline", folder: Path) -> str:
    from quantmill.architectures.hyperparameters import uncomputed
    from quantmill.architectures.known import architecture
    from quantmill.checkpoint.readme import UnreadablePage
    from quantmill.network.hub import HubError
    from quantmill.recipe.base_files import OtherType
    from quantmill.recipe.convert_table import AUTO

    bare = replace(outline, matrix=_LEAST, overrides=(), calibration=None, evaluation=None, imatrix=None)
    try:
        lock = _trial(bare, folder)
    except HubError as error:
        outline.say("base", f"It could not be looked at: {error}.")
        return ""
    except OtherType as error:
        outline.base = {**outline.base, "type": error.type}
        return _model(outline, folder)
    except UnreadablePage as error:
        outline.base = {**outline.base, "readme": False}
        outline.say("base", f"Its page is left out: {error.problem}.")
        return _model(outline, folder)
    except UsageError:  # other errors are of files that are damaged, or that nobody can make a model of
        return _by_llama_cpp(outline, _trial(replace(bare, convert={"with": AUTO}), folder))
    known = architecture(lock.config or {})
    return "" if known.is_computed else str(uncomputed("config.json", known.name))


def _by_llama_cpp(outline: "Outline", lock: "Lock") -> str:
    """What our own code does not convert is left to the toolchain that is here, and so is what is measured of it."""
    from quantmill.recipe.convert_table import LLAMA_CPP
    from quantmill.toolchain.installed import find

    outline.convert = {"with": LLAMA_CPP}
    outline.say(
        "convert", f"llama.cpp's own converter makes the base, for ours does not: {lock.tools['convert']['why']}."
    )
    toolchain = find(outline.tag)
    if toolchain is None or toolchain.facts("imatrix") is None:
        return f"llama.cpp {outline.tag} has no llama-imatrix on this machine, which would measure it"
    outline.imatrix = {"with": LLAMA_CPP}
    if toolchain.facts("evaluation") is not None:
        outline.evaluation = {"with": LLAMA_CPP}
    return ""


def _trial(outline: "Outline", folder: Path) -> "Lock":
    from quantmill.forecast.trial import trial
    from quantmill.recipe.new_recipe import brought
    from quantmill.recipe.recipe import parse

    tried = replace(outline, base=_moved(outline.base, ("path", "gguf"), folder), comments={})
    if outline.imatrix:
        tried.imatrix = _moved(outline.imatrix, ["file"], folder)
    for name in ("calibration", "evaluation"):  # their texts are not there yet
        if table := getattr(outline, name):
            setattr(tried, name, {**table, "text": str(brought(table["text"]))})
    path = Path(os.path.relpath(project())) / f"{outline.name}.toml"
    return trial(parse(path, tried.text()))


def _moved(table: Mapping[str, Any], keys: Iterable[str], folder: Path) -> dict[str, Any]:
    """A table of a recipe in `folder`, as one in the project's own has it: its paths are read from there."""
    top = project()
    found = {key: os.path.relpath(folder.resolve() / table[key], top) for key in keys if key in table}
    return {**table, **found}
