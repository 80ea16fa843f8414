"""A build's last look, before it ends well, at what it made and used."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from quantmill.build.graph import Node, below
from quantmill.build.workspace import TRIES, Workspace
from quantmill.errors import QuantmillError, sentence


def last_look(space: Workspace) -> list[str]:
    """Ask again, as a build with nothing to do would, whether all is up to date that this one brought about and what it
    stands on; what was damaged meanwhile is made anew. Returns a sentence for each task where that fails."""
    graphs = {id(nodes): nodes for nodes in space.brought.values()}
    damaged: list[str] = []
    for _ in range(TRIES):
        damaged = []
        space.store.look_anew()
        for nodes in graphs.values():
            names = below([name for name in space.brought if name in nodes], nodes)
            try:
                damaged += _mend([name for name in names if name in space.brought or name in space.same], nodes, space)
            except QuantmillError as error:
                return [str(error)]
            except OSError as error:
                return [sentence(error)]
        if not damaged:
            return []
    return [f"{name}: it was damaged {TRIES} times while the build ended; look after the disk" for name in damaged]


def _mend(names: Sequence[str], nodes: Mapping[str, Node], space: Workspace) -> list[str]:
    """Those of the tasks that were not up to date any more; they are brought about again, here."""
    here, found = replace(space, elsewhere=None), []
    for name in names:
        if not here.up_to_date(nodes[name], nodes):
            here.report(name, "finding", {"text": f"{name}: it was damaged after it was made, and is made anew"})
            here.perform(nodes[name], nodes)
            found.append(name)
    return found
