"""One meaning a word: no class and no file of the package shares its name with another."""

import ast
from collections import defaultdict
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path

import pytest

import quantmill

PACKAGE = Path(quantmill.__file__).parent if quantmill.__file__ else Path()
SOURCES = sorted(PACKAGE.rglob("*.py"))
# A name that stands for the same thing in several places, and where: each step names the record of its parameters so.
SAME_EVERYWHERE = {"Params": "steps"}
# A room's errors; a command and a step are named as a person calls them, whatever the rooms call their files.
NAMED_BY_ROLE = ("__init__", "errors")
NAMED_BY_USE = ("commands", "steps")


def twice(places: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """The names that stand in more than one place, with the places."""
    found = defaultdict(list)
    for name, place in places:
        found[name].append(place)
    return {name: sorted(listed) for name, listed in found.items() if len(listed) > 1}


def folder(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0]


def public_classes(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text()))
    return {node.name for node in nodes if isinstance(node, ast.ClassDef) and not node.name.startswith("_")}


def test_no_public_class_name_occurs_twice() -> None:
    named = (
        (name, path.relative_to(PACKAGE).as_posix())
        for path in SOURCES
        for name in public_classes(path)
        if SAME_EVERYWHERE.get(name) != folder(path)
    )
    assert twice(named) == {}


def test_no_file_name_occurs_twice() -> None:
    named = (
        (path.stem, path.relative_to(PACKAGE).as_posix())
        for path in SOURCES
        if path.stem not in NAMED_BY_ROLE and folder(path) not in NAMED_BY_USE
    )
    assert twice(named) == {}


def test_every_folder_of_tests_is_looked_into(pytestconfig: pytest.Config) -> None:
    left_out = [
        folder.name
        for folder in Path(__file__).parent.rglob("*/")
        if any(folder.rglob("test_*.py"))
        and any(fnmatch(folder.name, pattern) for pattern in pytestconfig.getini("norecursedirs"))
    ]
    assert left_out == []
