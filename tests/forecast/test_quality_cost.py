"""What a plan and a simulation say of the time that measuring files takes."""

import json
import shutil
from collections.abc import Callable
from math import prod

import pytest

from projects import RECIPE, TINY, Project
from quantmill.build.graph import graph
from quantmill.distributed.simulation import Team, _recipe_tasks
from quantmill.forecast.base_file import Description, describe
from quantmill.forecast.costs import Rates
from quantmill.forecast.evaluation_rates import BESIDE, weigh
from quantmill.forecast.files import quantized_file
from quantmill.forecast.imatrix_cost import facts_of
from quantmill.forecast.quality_cost import (
    LOADED_BYTES,
    SAMPLED_WEIGHTS,
    WARM_UP,
    QualityCost,
    bench_seconds,
    logit_seconds,
    quality_cost,
    weight_seconds,
)
from quantmill.gguf.types import TYPES
from quantmill.recipe.lock import Lock, peek
from quantmill.recipe.recipe import Recipe, load
from quantmill.store.local import sha256_file

MEASURED = (
    RECIPE
    + """
[evaluation]
text = "tiny/evaluation.txt"
chunks = 3
n_ctx = 128

[bench]
tests = ["pp64", "tg16"]
ftypes = ["BF16", "Q4_K_M"]
repetitions = 2
"""
)


@pytest.fixture
def measured(make_project: Callable[..., Project]) -> Project:
    project = make_project(text=MEASURED)
    shutil.copy(TINY / "evaluation.txt", project.folder / "recipes" / "tiny" / "evaluation.txt")
    return project


def read(project: Project) -> tuple[Recipe, Lock, Description]:
    recipe = load(project.recipe)
    lock = peek(recipe, sha256_file)
    return recipe, lock, describe(recipe, lock)


def of(project: Project, speed: float = 1e9, compared: float = 1e-9) -> QualityCost:
    recipe, lock, base = read(project)
    files = {label: quantized_file(recipe, label, base, None).tensors for label in recipe.ftypes}
    found = quality_cost(recipe, lock, base.kvs, base.tensors, files, lambda _: speed, compared=lambda: compared)
    assert found is not None
    return found


def test_quality_is_a_pass_of_every_file_and_a_comparison(measured: Project) -> None:
    recipe, _, base = read(measured)
    found = of(measured)
    assert (found.tokens, found.chunks, found.n_ctx, found.exact) == (3 * 128, 3, 128, True)
    one = weigh(base.tensors, facts_of(base.kvs), 128).products
    assert found.base == pytest.approx(BESIDE * one * 3 * 128 / 1e9)
    shape = next(shape for name, shape, _ in base.tensors if name == "token_embd.weight")
    counted = 3 * (128 - 1 - 64)
    assert found.states == 4 * shape[0] * counted
    logits = counted * shape[1] * (2 * shape[0] * BESIDE / 1e9 + 1e-9)
    weights = sum(prod(shape) for _, shape, _ in base.tensors if len(shape) > 1)
    assert set(found.files) == set(recipe.ftypes)
    for seconds in found.files.values():  # every matrix is quantized, each smaller than a sample
        assert seconds == pytest.approx(found.base + logits + weights / SAMPLED_WEIGHTS)
    measured.edit("chunks = 3", "chunks = 6")
    assert of(measured).base == pytest.approx(2 * found.base)
    assert of(measured, 2e9).base == pytest.approx(found.base)


def test_a_bench_counts_tokens_by_type(measured: Project) -> None:
    recipe, _, base = read(measured)
    files = {"Q4_K_M": quantized_file(recipe, "Q4_K_M", base, None).tensors}
    found = bench_seconds(
        recipe, base.kvs, base.tensors, files, lambda type_: (1e-9, 1e-6 if type_ == "BF16" else 1e-7)
    )
    expected = 0.0
    for tensors in (base.tensors, files["Q4_K_M"]):
        for name, shape, type_ in tensors:
            count = prod(shape)
            expected += count // type_.block * type_.size / LOADED_BYTES
            if len(shape) > 1 and name != "token_embd.weight":
                one = 1e-6 if type_ is TYPES["BF16"] else 1e-7
                expected += count * (2 * (64 * 1e-9 + 16 * one) + WARM_UP * 1e-9)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("count", [[4, 4], 4])
def test_a_head_count_may_be_one_for_every_layer(count: object) -> None:
    tensors = [("token_embd.weight", (64, 100), TYPES["F32"]), ("blk.0.ffn_up.weight", (64, 96), TYPES["F32"])]
    assert weigh(tensors, {"attention.head_count": count}, 128) == weigh(tensors, {"attention.head_count": 4}, 128)


@pytest.mark.parametrize("count", [[], ["x"], "x", 0, -1, 2.5])
def test_a_head_count_that_is_none_weighs_as_one(count: object) -> None:
    tensors = [("token_embd.weight", (64, 100), TYPES["F32"]), ("blk.0.ffn_up.weight", (64, 96), TYPES["F32"])]
    assert weigh(tensors, {"attention.head_count": count}, 128) == weigh(tensors, {}, 128)


def test_rates_are_measured_for_every_type() -> None:
    assert logit_seconds() > 0
    for type_ in ("F32", "BF16", "Q4_K", "IQ2_XXS"):
        assert min(weight_seconds(type_)) > 0


def test_a_simulation_has_time_for_what_is_measured(measured: Project) -> None:
    recipe, lock, _ = read(measured)
    tasks, _ = _recipe_tasks(recipe, lock, Team(1, 1, 1e9), Rates())
    assert len(tasks) == len(graph(recipe, lock))
    by_step: dict[str, list[float]] = {}
    for task in tasks:
        by_step.setdefault(task.name.partition(":")[0], []).append(task.seconds)
    assert [len(by_step[step]) for step in ("evaluate", "quality", "bench")] == [1, 3, 1]
    assert min(seconds for step in ("evaluate", "quality", "bench") for seconds in by_step[step]) > 0
    states = of(measured).states
    index = next(at for at, task in enumerate(tasks) if task.name.startswith("evaluate"))
    assert tasks[index].writes == states
    assert all(task.reads[index] == states for task in tasks if task.name.startswith("quality"))


def test_a_plan_says_it(measured: Project) -> None:
    said = json.loads(measured.run("quantmill", "plan", "small", "--json").stdout)
    counted = {key: said["quality"][key] for key in ("tokens", "chunks", "n_ctx", "exact")}
    assert counted == {"tokens": 384, "chunks": 3, "n_ctx": 128, "exact": True}
    assert {"base_seconds", "files_seconds"} <= said["quality"].keys()
    assert said["bench_seconds"] >= 0
    lines = measured.run("quantmill", "plan", "small").stdout.splitlines()
    assert any(line.startswith("quality: 384 tokens in 3 chunks, about ") for line in lines)
    assert any(line.startswith("bench: about ") for line in lines)
    measured.edit(MEASURED.removeprefix(RECIPE), "")
    said = json.loads(measured.run("quantmill", "plan", "small", "--json").stdout)
    assert not {"quality", "bench_seconds"} & said.keys()
