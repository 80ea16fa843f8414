"""`quantmill build --publish`: files go as soon as they are made, the page and the tag last."""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from quantmill.commands.common import project, say
from quantmill.errors import UsageError
from quantmill.units import size_text

if TYPE_CHECKING:
    from quantmill.build.workspace import Workspace
    from quantmill.recipe.recipe import Recipe

TRIES = 2  # of a release of which the Hub has lost files


def published(recipe: "Recipe", options: argparse.Namespace, build: Callable[..., int]) -> int:
    """Have the recipe built, published as it is built. `build(publish=place)` does the former. The exit code."""
    from quantmill.build.graph import graph
    from quantmill.build.local.as_built import Destination, forget, publishing
    from quantmill.build.opening import open_workspace
    from quantmill.build.release_tag import tag
    from quantmill.commands.publish import publish, tag_in
    from quantmill.recipe import git
    from quantmill.recipe import lock as locks
    from quantmill.release.publish import Lost

    space = open_workspace(project())
    place_of(recipe, space)
    if options.dry_run:
        lock = locks.peek(recipe, space.store.hints.digest_of)
        if recipe.repo and not lock.unresolved and tag_in(space.release / recipe.name) == tag(recipe, lock):
            return publish(recipe, space, tag(recipe, lock), False, yes=False)
        return _show(recipe, place_of(recipe, space))
    space.store.hints.remembers |= not options.locked
    lock = locks.current(recipe, options.locked, space.store.hints.digest_of)
    name, in_git = tag(recipe, lock), False
    if recipe.repo:
        in_git = git.check([recipe.path, locks.path_of(recipe)])
        _open(recipe, name)
    place = Destination(*place_of(recipe, space), name)
    for left in reversed(range(TRIES)):
        code = build(publish=place)
        if code or options.only or not recipe.repo:
            return code
        try:
            return publish(recipe, space, name, in_git, yes=True)
        except Lost as lost:
            if not left:
                raise
            say(f"note: {lost.args[0].partition(';')[0]}: it is made again")
            nodes, _ = publishing(recipe, graph(recipe, lock), place)
            forget(nodes, space, {file.sha256 for file in lost.files})
    return 1


def place_of(recipe: "Recipe", space: "Workspace") -> tuple[str, bool]:
    """Where the recipe's files go, and whether that is the Hub. UsageError where there is no place."""
    if recipe.repo:
        return recipe.repo, True
    if space.store.remote:
        return space.store.remote.address, False
    raise UsageError(
        f"{recipe.path}: publish.owner: files that are published as they are built need a place to go; give owner or "
        "repo, or name a shared store in quantmill.toml"
    )


def _open(recipe: "Recipe", name: str) -> None:
    """Before any work: the repository is there, and may be written to where it is made now."""
    from huggingface_hub import get_token

    from quantmill.network.uploading import create
    from quantmill.release.publish import prepare

    assert recipe.repo is not None
    if not get_token():
        raise UsageError(f"{recipe.repo}: nobody may send files to the Hub without a token; set HF_TOKEN to yours")
    if prepare(recipe.repo, name, ()).new:
        create(recipe.repo, recipe.card.private)


def _show(recipe: "Recipe", place: tuple[str, bool]) -> int:
    """What a build would make and send; nothing is asked of the Hub."""
    from quantmill.forecast.plan import plan_of

    plan = plan_of(recipe, project())
    say(f"{place[0]}, release {plan.release_tag}" if plan.release_tag else place[0])
    for row in sorted(plan.files, key=lambda row: row.name):
        say(f"to build and send  {row.name}  {row.bytes:,} bytes" if row.bytes else f"to build and send  {row.name}")
    say(f"{size_text(sum(row.bytes for row in plan.files))} of weights, the page and what goes with it last")
    return 0
