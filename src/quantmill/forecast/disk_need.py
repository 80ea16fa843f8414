"""The disk that a release takes: when all of it is kept, and at most where files go as they are published."""

from collections.abc import Mapping, Sequence

from quantmill.forecast.base_file import Description
from quantmill.forecast.files import FileRow
from quantmill.quant.file_plan import FilePlan
from quantmill.recipe.lock import Lock
from quantmill.recipe.recipe import Recipe


def disk_bytes(
    recipe: Recipe, lock: Lock, base: Description, files: Mapping[str, FilePlan], rows: Sequence[FileRow]
) -> int:
    """The base as it comes and as it is converted, each quantized file, and shards beside the whole file that they are
    cut from. The release's folder holds links."""
    disk = sum(fact.size for fact in lock.files.values()) + sum(file.n_bytes for file in files.values())
    return disk + _converted(recipe, base) + sum(row.bytes for row in rows if row.shards > 1)


def disk_peak(recipe: Recipe, lock: Lock, base: Description, rows: Sequence[FileRow], stays: int) -> int:
    """The most at a time of a build that publishes as it goes. `rows` are in the order of the build; `stays`: bytes of
    what is measured on the way and kept, as the base's predictions. A checkpoint goes when it is converted; beside
    the base there are never more than `keep_files` files, each whole and in shards where it is cut."""
    came = sum(fact.size for fact in lock.files.values()) or base.bytes
    made, keep = _converted(recipe, base), recipe.keep_files
    taken = [_taken(recipe, row) for row in rows]
    window = max(sum(taken[max(0, at - keep + 1) : at + 1]) for at in range(len(taken)))
    if recipe.bench and not recipe.as_built:  # then all wait for the test of speeds
        window = max(window, sum(taken[at] for at, row in enumerate(rows) if row.ftype in recipe.bench.ftypes))
    return max(came + made, (made or came) + stays + window)


def _converted(recipe: Recipe, base: Description) -> int:
    return base.bytes if recipe.base.gguf is None else 0


def _taken(recipe: Recipe, row: FileRow) -> int:
    """What one file of the release takes beside the base, which it may be itself."""
    whole = 0 if row.ftype == recipe.base.type else row.bytes
    return whole + (row.bytes if row.shards > 1 else 0)
