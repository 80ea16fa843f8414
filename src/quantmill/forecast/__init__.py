"""A release before any work: exact sizes, what would run, what it takes."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quantmill.recipe.lock import Lock
    from quantmill.recipe.recipe import Recipe
    from quantmill.steps.step import Estimates


def estimates(recipe: "Recipe", lock: "Lock") -> "Estimates":
    """What the costs of a recipe's steps are made of, at this machine's rates. What it needs is imported only now."""
    from quantmill.forecast.costs import costs_of

    return costs_of(recipe, lock)
