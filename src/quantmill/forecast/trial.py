"""Whether a recipe that is about to be written has a plan: its base is looked at, and no weight is read."""

from pathlib import Path

from quantmill.forecast.base_file import Undescribed, describe
from quantmill.forecast.files import imatrix_facts, quantized_file
from quantmill.recipe import lock as locks
from quantmill.recipe.lock import Lock
from quantmill.recipe.recipe import Recipe


def trial(recipe: Recipe) -> Lock:
    """The recipe's lock, without a digest of what is large; raises what a plan of it would."""
    lock = locks.resolve(recipe, _undigested)
    try:
        base = describe(recipe, lock)
    except Undescribed:
        return lock
    for label in recipe.ftypes:
        quantized_file(recipe, label, base, imatrix_facts(recipe, None))
    return lock


def _undigested(path: Path) -> str:
    """What tells apart the files that one process looks at."""
    return f"{path.resolve()} {path.stat().st_mtime_ns}"
