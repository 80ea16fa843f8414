"""`quantmill explain`: say why a task would run: quantmill explain quant:tiny/Q4_K_M"""

import argparse

from quantmill.commands.common import project, recipe_file, say, say_json, words
from quantmill.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("task", type=words)
    parser.add_argument("recipe", type=words, nargs="?", help="its .toml file, when that is not in recipes/")
    parser.add_argument("--json", action="store_true")


def run(options: argparse.Namespace) -> int:
    """Exit code 0, or an error."""
    from quantmill.forecast.plan import statuses
    from quantmill.recipe.recipe import load

    recipe_name = options.task.partition(":")[2].partition("/")[0]
    if not recipe_name:
        raise UsageError(f"{options.task!r} is not a task's name; write it like quant:tiny/Q4_K_M")
    found = statuses(load(recipe_file(options.recipe or recipe_name)), project())
    if options.task not in found:
        from quantmill.errors import nearest

        raise UsageError(f"there is no task {options.task}{nearest(options.task, found)}; 'doit list --all' shows them")
    status = found[options.task]
    if options.json:
        say_json({"name": options.task, "status": status.state, "reason": status.reason}, None)
    else:
        say(f"{options.task}: {status.state}" + (f": {status.reason}" if status.reason else ""))
    return 0
