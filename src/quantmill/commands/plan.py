"""`quantmill plan`: show every task and file of a recipe before any work, from its configuration alone."""

import argparse
from typing import TYPE_CHECKING

from quantmill.commands.common import parallel, positive, project, recipe_file, say, say_json, size, threads
from quantmill.errors import UsageError

if TYPE_CHECKING:
    from quantmill.recipe.recipe import Recipe

BANDWIDTH = 1_250_000_000  # bytes a second
SIMULATING = ("workers", "threads", "bandwidth", "times")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("recipe", nargs="+", help="a .toml file, or the name of one in recipes/; several to simulate")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--simulate", action="store_true", help="how long builds take for a team, and what they send")
    parser.add_argument("--workers", type=parallel, metavar="N", help="machines of the team (1)")
    parser.add_argument("--threads", type=parallel, metavar="N", help="threads of each (as many as here)")
    parser.add_argument(
        "--bandwidth", type=_rate, metavar="SIZE", help="a second, of each machine to the remote store (1.25GB)"
    )
    parser.add_argument("--times", type=positive, metavar="N", help="build N models of each recipe's shape (1)")


def run(options: argparse.Namespace) -> int:
    """Exit code 0, or an error."""
    from quantmill.recipe.recipe import load

    recipes = [load(recipe_file(name)) for name in options.recipe]
    if options.simulate:
        return _simulate(recipes, options)
    if given := next((name for name in SIMULATING if getattr(options, name) is not None), None):
        raise UsageError(f"--{given} is an option of --simulate; add that, or leave it out")
    if len(recipes) > 1:
        raise UsageError(f"one recipe has a plan, {len(recipes)} are named; name one, or add --simulate")
    from quantmill.forecast.plan import plan_of

    plan = plan_of(recipes[0], project())
    if options.json:
        say_json(plan.data())
    else:
        from quantmill.forecast.plan_text import plan_text

        say(*plan_text(plan))
    return 0


def _simulate(recipes: "list[Recipe]", options: argparse.Namespace) -> int:
    from quantmill.distributed.simulation import Team, simulate, simulation_text

    team = Team(options.workers or 1, threads(options), options.bandwidth or BANDWIDTH)
    found = simulate(recipes, project(), team, options.times or 1)
    if options.json:
        say_json(found.data())
    else:
        say(*simulation_text(found))
    return 0


def _rate(text: str) -> int:
    found = size(text.removesuffix("/s"))
    if not found:
        raise argparse.ArgumentTypeError("a network that carries nothing; write it like 1.25GB")
    return found
