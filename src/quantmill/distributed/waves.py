"""An imatrix cut into waves, so that several workers push one text through one model.

There are ranges of the text's chunks, one a worker, and groups of layers; a wave takes one range through one group. It
needs the states that the same range has after the group before, and the sums that the range before left of this group.
So the second worker is one group behind the first, and so on, and every wave's result is what one machine would have
had at that point (engine/wave.py). The imatrix step finds the last wave's sums and writes its files from them.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise

from quantmill.build.graph import Edge, Node
from quantmill.build.node_key import Facts
from quantmill.errors import QuantmillError
from quantmill.steps import STEPS
from quantmill.steps.wave import LIKELIHOODS, SUMS

GROUPS_A_WORKER = 4  # the last worker begins when the others have done a group each: 4 cost a fifth of the time at most


def cut(imatrix: Node, workers: int, layers: int) -> list[list[Node]]:
    """The waves of an imatrix node, by range of the text, then by group of layers."""
    recipe = imatrix.name.partition(":")[2]
    groups = min(layers, GROUPS_A_WORKER * workers)
    bounds = [layers * group // groups for group in range(groups + 1)]

    def named(index: int, group: int) -> str:
        return f"part:{recipe}/imatrix.{index}.{group}"

    def wave(index: int, group: int, first: int, end: int) -> Node:
        edges = list(imatrix.edges)
        if group:
            edges.append(Edge(named(index, group - 1), "states", "states"))
        if index:
            edges.append(Edge(named(index - 1, group), "sums", "sums"))
        if (index, group) == (workers - 1, groups - 1):
            edges += [Edge(named(index, other), "sums", f"{SUMS}{other}") for other in range(group)]
            edges += [Edge(named(other, group), "nll.npy", f"{LIKELIHOODS}{other}") for other in range(index)]
        params = {"imatrix": imatrix.params, "range": [index, workers], "layers": [first, end]}
        return Node(named(index, group), STEPS["wave"], params, tuple(edges), imatrix.generation, where=imatrix.where)

    return [
        [wave(index, group, first, end) for group, (first, end) in enumerate(pairwise(bounds))]
        for index in range(workers)
    ]


def run(waves: list[list[Node]], send: Callable[[Node], Facts]) -> Facts:
    """Have each wave sent when what it reads is there; the last one's outputs. `send` raises QuantmillError."""
    made: Mapping[str, Future[Facts]] = {node.name: Future() for row in waves for node in row}

    def one(row: list[Node]) -> None:
        try:
            for node in row:
                for edge in node.edges:
                    if edge.node in made:
                        made[edge.node].result()
                made[node.name].set_result(send(node))
        except BaseException as error:
            for node in row:
                if not made[node.name].done():
                    made[node.name].set_exception(error)
            if not isinstance(error, QuantmillError):
                raise

    with ThreadPoolExecutor(len(waves)) as threads:
        for row in waves:
            threads.submit(one, row)
        return made[waves[-1][-1].name].result()
