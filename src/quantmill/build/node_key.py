"""What a node reads of its upstream's outputs, and the step key that comes of it."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from quantmill.artifact import Artifact
from quantmill.build.graph import ALL, Node
from quantmill.store.key import StepKey

Outputs = Mapping[str, Artifact]
Facts = Mapping[str, Mapping[str, Any]]  # outputs as a pointer's JSON has them: {output: {sha256, size}}
T = TypeVar("T")


def key_of(node: Node, inputs: Outputs) -> StepKey:
    """The node's step key, given the artifacts of its edges."""
    return key_by_digest(node, {name: artifact.sha256 for name, artifact in inputs.items()})


def key_by_digest(node: Node, digests: Mapping[str, str]) -> StepKey:
    """The same, given their sha256."""
    return StepKey(node.step.name, node.step.version, node.generation, node.params, digests)


def upstream(
    node: Node, nodes: Mapping[str, Node], outputs_of: Callable[[Node], Mapping[str, T] | None]
) -> dict[str, T] | None:
    """What the node reads, by input name, of its upstream's outputs; None when one of them has none."""
    inputs: dict[str, T] = {}
    for edge in node.edges:
        outputs = outputs_of(nodes[edge.node])
        if outputs is None:
            return None
        if edge.output == ALL:
            inputs |= {edge.name + name: output for name, output in outputs.items()}
        elif edge.output in outputs:
            inputs[edge.name] = outputs[edge.output]
        else:
            return None  # a pointer that was damaged
    return inputs


def promised(node: Node) -> Mapping[str, str]:
    """The sha256 of each output that the node's key knows beforehand."""
    facts: Mapping[str, Mapping[str, Any]] = node.params["files"] if node.step.holds else {}
    return {name: fact["sha256"] for name, fact in facts.items()}


def facts_of(outputs: Outputs) -> Facts:
    """Outputs as pointers and records write them."""
    return {name: {"sha256": artifact.sha256, "size": artifact.size} for name, artifact in outputs.items()}
