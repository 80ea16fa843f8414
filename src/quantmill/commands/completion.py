"""`quantmill completion SHELL`: the script by which a shell completes commands, options, recipes and ftypes."""

import argparse
from typing import Any

from quantmill.commands import common

SHELLS = ("bash", "zsh", "fish")
# Recipes of the project stood in, by name: each shell runs this when it is asked. None of the three may quote here.
RECIPES = "ls recipes 2>/dev/null | sed -n s/.toml//p"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))


def run(options: argparse.Namespace) -> int:
    """Exit code 0, or an error."""
    import shtab

    from quantmill.cli import COMMANDS, parser

    grammar = parser(tuple(COMMANDS))
    _mark(grammar)
    print(shtab.complete(grammar, options.shell))
    return 0


def _mark(parser: argparse.ArgumentParser) -> None:
    """Give every argument of the grammar what its values are: files, folders, recipes, ftypes."""
    from quantmill.reference.ftypes import FTYPES

    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                _mark(below)
        elif action.dest in ("ftype", "only"):
            action.choices = tuple(FTYPES)
        elif found := _values(action):
            action.complete = found  # type: ignore[attr-defined]  # shtab reads it


def _values(action: argparse.Action) -> dict[str, Any] | None:
    import shtab

    if action.type in (common.file_path, common.place, common.base_place) or action.dest in ("release", "source"):
        return dict(shtab.FILE)
    if action.type is common.folder_path or action.dest == "folder":
        return dict(shtab.DIRECTORY)
    if action.dest == "recipe":
        return dict(shtab.cmd(RECIPES))
    return None
