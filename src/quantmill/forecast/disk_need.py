"""The disk that a release takes: when all of it is kept, and at most where some of it goes meanwhile."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from quantmill.build.graph import projector_name, task
from quantmill.forecast.base_file import Description
from quantmill.forecast.files import FileRow
from quantmill.quant.file_plan import FilePlan
from quantmill.recipe.lock import Lock
from quantmill.recipe.recipe import Recipe


def disk_bytes(
    recipe: Recipe,
    lock: Lock,
    base: Description,
    files: Mapping[str, FilePlan],
    rows: Sequence[FileRow],
    projectors: Mapping[str, int],
) -> int:
    """The base as it comes and as it is converted, each quantized file, and shards beside the whole file that they are
    cut from; `projectors`, by their names. The release's folder holds links."""
    disk = (
        sum(projectors.values())
        + sum(fact.size for fact in lock.files.values())
        + sum(file.n_bytes for file in files.values())
    )
    return disk + _converted(recipe, base) + sum(row.bytes for row in rows if row.shards > 1)


@dataclass(frozen=True)
class DiskNeed:
    """What the tasks of a build write, in bytes.

    `came`, `made`, `states`: the base as it comes, as it is converted, and its predictions
    `files`: each file of the release by the task that writes it, in the order of the build; whole, in shards, or both
    """

    recipe: Recipe
    came: int
    made: int
    states: int
    files: Mapping[str, int]

    def most(self, goes: Collection[str] = (), published: bool = False, there: Collection[str] = ()) -> int:
        """The most at a time beyond what is there. `goes`: kinds of build.local.clearing; `published`: whether files go
        where these say so, `keep_files` being here at a time; `there`: tasks that have nothing to write."""
        name, keep = self.recipe.name, self.recipe.keep_files
        now = 0 if f"download:{name}" in there else self.came
        most = now = now + (0 if f"convert:{name}" in there else self.made)
        if "checkpoint" in goes and self.made:
            now -= 0 if f"download:{name}" in there else self.came
        now += 0 if f"evaluate:{name}" in there else self.states
        measured = self.recipe.bench is not None and not self.recipe.as_built  # then files wait for the test of speeds
        sizes = [0 if maker in there else size for maker, size in self.files.items()]
        for at in range(len(sizes)):
            first = max(0, at - keep + 1) if published and "release" in goes and not measured else 0
            most = max(most, now + sum(sizes[first : at + 1]))
        return most


def disk_need(
    recipe: Recipe, lock: Lock, base: Description, rows: Sequence[FileRow], states: int, projectors: Mapping[str, int]
) -> DiskNeed:
    """Of a recipe's whole release. `rows` are in the order of the build; `states`: bytes of the base's predictions;
    `projectors`: bytes by name."""
    files = {}
    for row in rows:
        own = row.ftype == recipe.base.type
        whole, shards = 0 if own else row.bytes, row.bytes if row.shards > 1 else 0
        files[task("split" if own else "quant", recipe, row.ftype)] = whole + shards
    for type_ in recipe.projectors:
        files[task("mmproj", recipe, type_)] = projectors.get(projector_name(recipe, type_), 0)
    came = sum(fact.size for fact in lock.files.values()) or base.bytes
    return DiskNeed(recipe, came, _converted(recipe, base), states, files)


def _converted(recipe: Recipe, base: Description) -> int:
    return base.bytes if recipe.base.gguf is None else 0
