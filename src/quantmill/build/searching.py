"""The nodes of files whose types are found by measuring: one that measures, for all of them, and one for each mix."""

from quantmill.build.node import Edge, Node, task
from quantmill.build.step_params import mix_params, sensitivity_params
from quantmill.recipe import texts
from quantmill.recipe.recipe import Recipe
from quantmill.recipe.target_table import TargetTable
from quantmill.steps import STEPS
from quantmill.steps.mix import FOUND, MIX

SENSITIVITY = "sensitivity.json"


def sensitivity(recipe: Recipe, base: Edge, imatrix: tuple[Edge, ...], checked: tuple[str, ...]) -> Node:
    """What rounding each of the base's tensors costs."""
    table = recipe.search
    assert table is not None
    text = Edge(task("search" if texts.search(recipe) else "calibration", recipe), "*", "texts/")
    targets = {target.name: mix_params(recipe, target) for target in recipe.targets}
    where = {"memory": table.memory, "generation": recipe.generation, "targets": targets}
    name, params, edges = task("sensitivity", recipe), sensitivity_params(recipe), (base, *imatrix, text)
    return Node(name, STEPS["sensitivity"], params, edges, recipe.generation, where, after=checked)


def mix(recipe: Recipe, target: TargetTable, base: Edge, imatrix: tuple[Edge, ...]) -> Node:
    """The types of one file."""
    edges = (base, *imatrix, Edge(task("sensitivity", recipe), SENSITIVITY, SENSITIVITY))
    where = {"generation": recipe.generation}
    return Node(
        task("mix", recipe, target.name),
        STEPS["mix"],
        mix_params(recipe, target),
        edges,
        recipe.generation,
        where,
    )


def mix_edge(recipe: Recipe, label: str) -> Edge:
    """What the steps of a target read of its mix."""
    return Edge(task("mix", recipe, label), MIX, MIX)


def found_edge(recipe: Recipe, label: str) -> Edge:
    """What is told of its search."""
    return Edge(task("mix", recipe, label), FOUND, f"{label}.{FOUND}")
