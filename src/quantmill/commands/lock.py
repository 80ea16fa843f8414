"""`quantmill lock`: resolve a recipe's base to commits and digests, and write its lock."""

import argparse

from quantmill.commands.common import project, recipe_file, say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("recipe")


def run(options: argparse.Namespace) -> int:
    """Exit code 0, or an error."""
    from quantmill.build.opening import open_workspace
    from quantmill.forecast.tool_choice import tool_choice
    from quantmill.recipe import lock
    from quantmill.recipe.recipe import load

    recipe = load(recipe_file(options.recipe), anew=True)
    found = lock.write(recipe, open_workspace(project()).store.hints.digest_of)
    say(*(f"note: {note}" for note in found.notes))
    say(*tool_choice(recipe, found))
    if found.llama_cpp:
        say(f"llama.cpp {found.llama_cpp}, which the recipe does not name")
    files = f"{len(found.files)} file{'s' * (len(found.files) != 1)}"
    say(f"{lock.path_of(recipe)}: {files}, {sum(f.size for f in found.files.values())} bytes")
    return 0
