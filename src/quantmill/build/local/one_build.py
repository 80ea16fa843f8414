"""One recipe built on this machine, outside a dodo.py."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from quantmill.build.local.as_built import Destination, publishing
from quantmill.build.local.clearing import Clearing
from quantmill.build.doit_tasks import label, nodes, run, seconds, wanted, workspace
from quantmill.build.graph import Node, below
from quantmill.build.local.timings import Timings
from quantmill.build.workspace import Workspace
from quantmill.build.worth import Estimate
from quantmill.recipe.recipe import Recipe, load

# Sees, before any work, that a build has room; answers with the kinds of what it lets go (build/local/clearing.py).
Room = Callable[[Recipe, Mapping[str, Node], Workspace], Collection[str]]


@dataclass(frozen=True)
class BuildCall:
    """What is to be built, and how.

    `only`: labels of the files (none: the release)
    `jobs`: tasks at a time
    `threads`: of each (None: all)
    `locked`: whether a lock that does not describe the base fails the build
    `check`: the share of what steps make that is made again and compared
    `timings`: hears when each task runs
    """

    path: Path
    root: Path
    room: Room
    only: tuple[str, ...] = ()
    jobs: int = 1
    threads: int | None = None
    locked: bool = False
    check: float = 0.0
    timings: Timings | None = None


def build(job: BuildCall, estimate: Estimate | None = None, publish: Destination | None = None) -> int:
    """Build it; the exit code. `estimate`: as of `dodo`; `publish`: where each file goes as soon as it is made."""
    space, listener = workspace(job.root, job.threads, estimate)
    space = replace(space, check=job.check)
    if job.timings:
        space = replace(space, report=job.timings.before(space.report))
    recipe = load(job.path)
    names = wanted(recipe, [*job.only])
    listener.seconds = lambda: seconds([recipe], estimate)
    found, sent = nodes(recipe, space, job.locked), list[str]()
    if publish:
        found, sent = publishing(recipe, found, publish, [label(recipe, name) for name in job.only])
        names = sent if job.only else names
    goes = job.room(recipe, asked := below(names, found), space)
    clearing = Clearing(found, [*asked], goes, sent, recipe.keep_files) if goes else None
    return run(found, space, listener, job.root, names, job.jobs, clearing)
