"""What is gone or refused: a file that a step refuses, and the shared store gave, is made here once more."""

from collections.abc import Callable, Mapping

from quantmill.build.graph import Node, below
from quantmill.build.node_key import Outputs, key_of, upstream
from quantmill.errors import QuantmillError
from quantmill.store.key import StepKey
from quantmill.store.local import Store


class NotMadeAgain(QuantmillError):
    """What a node's outputs were is gone, and `node` cannot be made again here, for reasons of its own."""

    def __init__(self, node: str, why: QuantmillError) -> None:
        super().__init__(str(why))
        self.node = node


class Rejected(QuantmillError):
    """A step that judges a file refuses it."""


def doubted(
    node: Node, nodes: Mapping[str, Node], outputs_of: Callable[[Node], Outputs | None], store: Store
) -> dict[str, StepKey]:
    """The tasks that made the node's file, by the records of the shared store, and their keys, in the graph's order:
    those of the same ftype, and those that made the same bytes."""
    above = {name: one for name, one in below([node.name], nodes).items() if name != node.name}
    read = upstream(node, nodes, outputs_of) or {}
    made = {artifact.sha256 for name, artifact in read.items() if name.startswith(node.step.judges)}
    bytes_of = {name: {a.sha256 for a in (outputs_of(one) or {}).values()} for name, one in above.items()}
    made = made.union(*(bytes_of[name] for name, one in above.items() if node.label and one.label == node.label))
    found = {}
    for name, one in above.items():
        inputs = upstream(one, nodes, outputs_of)
        if inputs is not None and not made.isdisjoint(bytes_of[name]) and store.taken(key := key_of(one, inputs)):
            found[name] = key
    return found
