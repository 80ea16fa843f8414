"""A node of the graph, and how its task is called."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from quantmill.artifact import Artifact
from quantmill.recipe.recipe import Recipe
from quantmill.steps import STEPS
from quantmill.steps.step import Step

ALL = "*"


class Edge(NamedTuple):
    """One thing that a node reads: `output` of the node `node` (ALL: each of its outputs, in which case `name` is put
    before the output's own name), under the input name `name`."""

    node: str
    output: str
    name: str


@dataclass(frozen=True)
class Node:
    """One task.

    `params`: with the digests behind `edges`, what its key is made of
    `where`: where things can be had; not in the key
    `files`: local copies of what `params` names by digest; not in the key
    `after`: nodes that must have succeeded first, though nothing of theirs is read
    """

    name: str
    step: Step
    params: Mapping[str, Any]
    edges: tuple[Edge, ...] = ()
    generation: int = 0
    where: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Artifact] = field(default_factory=dict)
    after: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The ftype in the name; empty for a task of the whole recipe."""
        return self.name.partition("/")[2]

    @property
    def is_cut(self) -> bool:
        """Whether the types of its file are known before the work, by which workers may share its tensors."""
        return self.step.divides == "tensors" and "ftype" in self.params


def task(step: str, recipe: Recipe, label: str = "") -> str:
    """A task's name: `step:recipe` or `step:recipe/FTYPE`."""
    return f"{step}:{recipe.name}/{label}" if label else f"{step}:{recipe.name}"


def file_name(recipe: Recipe, label: str) -> str:
    """A released file's name without its ending. The base's own file is written small, as release pages do."""
    return f"{recipe.prefix}-{label.lower() if label == recipe.base.type and not recipe.base.quantized else label}"


def projector_name(recipe: Recipe, type_: str) -> str:
    """A released projector's name; floats are written small, as the base's own file is."""
    return f"mmproj-{recipe.prefix}-{type_ if type_[0] == 'Q' else type_.lower()}.gguf"


def given(name: str, files: Mapping[str, Artifact]) -> Node:
    """In the place of the task of that name: its outputs, made elsewhere, from files."""
    params = {"files": {output: {"sha256": file.sha256, "size": file.size} for output, file in files.items()}}
    return Node(name, STEPS["download"], params, files=files)
