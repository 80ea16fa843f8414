"""`quantmill card`: write the page of a recipe's release, with what has been built and measured so far."""

import argparse
from pathlib import Path

from quantmill.commands.common import folder_path, project, recipe_file, say
from quantmill.output_file import check_output_folder, write_output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("recipe")
    parser.add_argument("-o", "--output", type=folder_path, default=Path(), metavar="DIR", help="where to write (here)")


def run(options: argparse.Namespace) -> int:
    """Exit code 0, or an error."""
    from quantmill.build.graph import card_params
    from quantmill.card.card_facts import facts
    from quantmill.card.catalogue import LANGUAGES, page_name
    from quantmill.card.page import render
    from quantmill.recipe.recipe import load
    from quantmill.release.offer import of_recipe

    check_output_folder(options.output)
    recipe = load(recipe_file(options.recipe))
    offer = of_recipe(recipe, project())
    found = facts(
        card_params(recipe, offer.lock), offer.files, offer.bench, offer.chart, offer.left_out, offer.projectors
    )
    options.output.mkdir(parents=True, exist_ok=True)
    for language in LANGUAGES:
        path = options.output / page_name(language)
        write_output(path, render(found, language).encode())
        say(str(path))
    return 0
