"""The files whose types are searched: as their mix says, or what they are at most before it is known."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from quantmill.build import graph
from quantmill.build.graph import Node
from quantmill.build.step_params import mix_params
from quantmill.build.workspace import Workspace
from quantmill.choose.placement import room_on_card
from quantmill.choose.shape import of_file
from quantmill.errors import UsageError
from quantmill.forecast.base_file import Description
from quantmill.gguf import file_size
from quantmill.mix_search.space import KEY, SearchSpace, Target
from quantmill.quant.file_plan import FilePlan, ImatrixFacts, plan_file
from quantmill.quant.overrides import overrides_of
from quantmill.recipe.recipe import Recipe
from quantmill.recipe.target_table import TargetTable
from quantmill.steps.mix import FOUND, MIX

Mixes = Mapping[str, Mapping[str, Any]]  # what the mix step wrote, by the target's name


def known_mixes(recipe: Recipe, nodes: Mapping[str, Node], space: Workspace, output: str = MIX) -> Mixes:
    """What a build has found here of the recipe's targets; of `output` FOUND, what is told of it."""
    found = {}
    for target in recipe.targets:
        node = nodes[graph.task("mix", recipe, target.name)]
        try:
            if space.up_to_date(node, nodes):
                found[target.name] = json.loads((space.outputs(node) or {})[output].path.read_bytes())
        except (KeyError, OSError, ValueError):
            continue
    return found


def told_of_search(recipe: Recipe, nodes: Mapping[str, Node], space: Workspace) -> Mixes:
    """What the mix step tells of each target that has been searched for here."""
    return known_mixes(recipe, nodes, space, FOUND)


def target_file(
    recipe: Recipe, target: TargetTable, base: Description, imatrix: ImatrixFacts | None, mix: Mapping[str, Any] | None
) -> FilePlan:
    """The target's file. Without a mix, that of the largest stock file which it may be as large as, with the bytes that
    it has at most."""
    if mix is not None:
        overrides, setting = overrides_of(mix), [(KEY, mix["note"])]
        described = (recipe.reference, base.kvs, base.tensors, mix["ftype"])
        return plan_file(*described, imatrix=imatrix, overrides=overrides, override_kv=setting)
    fixed = overrides_of(mix_params(recipe, target))
    space = SearchSpace(f"{recipe.path}: {target.name}", base.kvs, base.tensors, recipe.reference, imatrix, fixed)
    assert recipe.search is not None
    note = space.note(recipe.search.chunks, recipe.search.n_ctx)
    asked = _asked(target, base)
    if error := space.too_small(asked, note, space.fitting(target.allowed)):
        raise error
    bound = space.bound(asked, note)
    sizes = dict(space.stock())
    fits = [name for name in sizes if sizes[name] <= bound]
    like = max(fits, key=lambda name: sizes[name]) if fits else min(sizes, key=lambda name: sizes[name])
    return replace(space.plan(like, {}, note), n_bytes=bound)


def is_bound(file: FilePlan) -> bool:
    """Whether the file's bytes are what it has at most."""
    return file.n_bytes != file_size(file.kvs, file.tensors)


def _asked(target: TargetTable, base: Description) -> Target:
    if target.vram is None:
        return Target(**target.limit)
    if (shape := of_file(base.kvs, base.tensors)) is None:
        raise UsageError(f"{target.name}: the base does not say how many layers and heads it has; ask for a size")
    return Target(on_card=room_on_card(shape, target.vram, target.context))
