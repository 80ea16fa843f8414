"""Before a build: whether the disk has room for it, and what it lets go while it runs."""

import shutil
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from quantmill.commands.common import project, say
from quantmill.errors import QuantmillError
from quantmill.units import size_text

if TYPE_CHECKING:
    from quantmill.build.node import Node
    from quantmill.build.workspace import Workspace
    from quantmill.forecast.disk_need import DiskNeed
    from quantmill.recipe.lock import Lock
    from quantmill.recipe.recipe import Recipe

MOST = 3  # times the size of its base that no file of a release has, nor what is kept of the base


def room(recipe: "Recipe", nodes: "Mapping[str, Node]", space: "Workspace") -> Collection[str]:
    """The kinds of build.local.clearing.KINDS that the build lets go: what [store] does not keep. Where the disk has no
    room for all, a checkpoint too. QuantmillError where there is no room then, either."""
    from quantmill.build.local.clearing import KINDS
    from quantmill.recipe import lock as locks
    from quantmill.store.remote.settings import keeping

    published = any(node.step.name == "publish" for node in nodes.values())
    keep, most = keeping(project())
    goes = {"checkpoint", "release"} if published else set[str]()
    if keep is not None:
        goes = {kind for kind in KINDS if kind not in keep and (published or kind != "release")}
    lock = locks.load(recipe)
    read = {name for node in nodes.values() for name in (*node.after, *(edge.node for edge in node.edges))}
    if lock is None or all(space.up_to_date(nodes[name], nodes) for name in nodes.keys() - read):
        return goes
    free = shutil.disk_usage(
        next(p for p in (space.store.root, *space.store.root.absolute().parents) if p.is_dir())
    ).free
    base = sum(fact.size for fact in lock.files.values())
    if most is None and 0 < MOST * base * (len(recipe.ftypes) + 4) < free:
        return goes
    need = _need(recipe, lock, nodes, space)
    if need is None:
        return goes
    there = _there(nodes, space) | (need.files.keys() - nodes.keys())
    taken = need.most(goes, published, there)
    if most is not None:
        _within(space, most, taken)
    if taken <= free:
        return goes
    if "checkpoint" not in goes and (less := need.most({*goes, "checkpoint"}, published, there)) <= free:
        say(f"note: {size_text(free)} are free and the build takes {size_text(taken)}: the checkpoint goes when it is "
            f"converted, so that {size_text(less)} do")  # fmt: skip
        return {*goes, "checkpoint"}
    least = need.most({*goes, "checkpoint", "release"}, True, there)
    way = f", or publish files as they are built, by --publish, which takes {size_text(least)}"
    raise QuantmillError(
        f"{space.store.root}: {size_text(free)} are free on this disk, and the build takes {size_text(taken)} more; "
        f"free some{way if not published and least <= free else ''}"
    )


def _there(nodes: "Mapping[str, Node]", space: "Workspace") -> set[str]:
    """The tasks whose outputs the store has; they are marked as used."""
    from quantmill.build.node_key import Outputs, key_of, upstream

    known: dict[str, Outputs | None] = {}
    for name, node in nodes.items():
        inputs = upstream(node, nodes, lambda read: known.get(read.name))
        known[name] = None if inputs is None else space.store.used(key_of(node, inputs))
    return {name for name, outputs in known.items() if outputs is not None}


def _need(recipe: "Recipe", lock: "Lock", nodes: "Mapping[str, Node]", space: "Workspace") -> "DiskNeed | None":
    """None where the base's tensors are not known yet."""
    from quantmill.build import graph
    from quantmill.forecast.base_file import Undescribed, converted, describe
    from quantmill.forecast.costs import Costs, Rates
    from quantmill.forecast.disk_need import disk_need
    from quantmill.forecast.files import file_row, imatrix_facts, quantized_file, read_imatrix
    from quantmill.forecast.projector_bound import projector_bounds

    try:
        base = describe(recipe, lock, converted(recipe, lock, nodes, space))
    except Undescribed:
        return None
    facts = imatrix_facts(recipe, read_imatrix(recipe, space.store.hints.digest_of))
    files = {label: quantized_file(recipe, label, base, facts) for label in recipe.ftypes}
    rows = [file_row(recipe, label, files.get(label), base) for label in graph.labels(recipe)]
    quality = Costs(recipe, lock, base, files, Rates()).quality
    return disk_need(recipe, lock, base, rows, quality.states if quality else 0, projector_bounds(recipe, lock, base))


def _within(space: "Workspace", most: int, taken: int) -> None:
    """Make room in a store that may have so many bytes for a build that takes so many."""
    from quantmill.store.care.collector import Keep, collect

    space.store.add_root(space.build, space.release)
    kept = collect(space.store, Keep(age=None), max(0, most - taken)).kept_bytes if space.store.root.is_dir() else 0
    if kept + taken > most:
        raise QuantmillError(
            f"{space.store.root}: it holds {size_text(kept)} that pointers and releases need, the build takes "
            f"{size_text(taken)} more, and store.max_size is {size_text(most)}; raise that, or keep less"
        )
