"""`quantmill build`: build a recipe's release; only what changed is computed."""

import argparse
from pathlib import Path

from quantmill.commands.common import positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("recipe", help="a .toml file, or the name of one in recipes/")
    parser.add_argument("--only", action="append", default=[], metavar="FTYPE", help="build and verify this file alone")
    parser.add_argument("-n", dest="jobs", type=positive, default=1, metavar="N", help="tasks at a time (1)")
    parser.add_argument("--threads", type=positive, metavar="N", help="threads of one task (all cores)")
    parser.add_argument("--locked", action="store_true", help="fail when the lock does not describe the recipe's base")


def run(options: argparse.Namespace) -> int:
    """Exit code 0, or an error."""
    from quantmill.recipe import find
    from quantmill.tasks import build

    return build(find(options.recipe), Path.cwd(), options.only, options.jobs, options.threads, options.locked)
