"""`quantmill lock`: resolve a recipe's base to commits and digests, and write its lock."""

import argparse
from pathlib import Path

from quantmill.commands.common import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("recipe")


def run(options: argparse.Namespace) -> int:
    """Exit code 0, or an error."""
    from quantmill.build.workspace import open_workspace
    from quantmill.recipe import lock
    from quantmill.recipe.recipe import find, load

    recipe = load(find(options.recipe))
    found = lock.write(recipe, open_workspace(Path.cwd()).store.hints.digest_of)
    say(*(f"note: {note}" for note in found.notes))
    say(f"{lock.path_of(recipe)}: {len(found.files)} files, {sum(f.size for f in found.files.values())} bytes")
    return 0
