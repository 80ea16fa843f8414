"""`quantmill plan`: show every task and file of a recipe before any work, from its configuration alone."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("recipe")
    parser.add_argument("--json", action="store_true")


def run(options: argparse.Namespace) -> int:
    """Exit code 0, or an error."""
    import json

    from quantmill.preview import preview
    from quantmill.recipe import find, load

    plan = preview(load(find(options.recipe)), Path.cwd())
    if options.json:
        print(json.dumps(plan.data(), indent=1))
    else:
        from quantmill.show import plan_text

        print(plan_text(plan))
    return 0
