"""What a projector has at most before it is made, of a folder and of a repository whose files' sizes are known."""

import json
from dataclasses import replace
from math import prod
from pathlib import Path

import pytest

from convert_golden import models as golden
from quantmill.checkpoint.safetensors import read_header
from quantmill.forecast import projector_bound
from quantmill.forecast.base_file import describe
from quantmill.forecast.disk_need import disk_bytes, disk_need
from quantmill.forecast.plan import plan_of
from quantmill.forecast.plan_text import plan_text
from quantmill.recipe.lock import Lock, peek
from quantmill.recipe.recipe import Recipe, load

RECIPE = 'llama_cpp = "b5490"\n[base]\npath = "base"\nname = "G"\n[quants]\nmatrix = ["Q8_0"]\n'
NAMES = ("mmproj-r-f16.gguf", "mmproj-r-Q8_0.gguf")
KEPT = 256 << 10  # of a header
VISION = "vision_tower.vision_model.encoder.layers.0"


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    golden.gemma3_vision(tmp_path / "base", shards=1)
    (tmp_path / "r.toml").write_text(RECIPE)
    return replace(load(tmp_path / "r.toml"), projectors=("F16", "Q8_0"))


def lock_of(recipe: Recipe) -> Lock:
    """Without the toolchain that makes projectors."""
    return peek(replace(recipe, projectors=()), lambda path: "0" * 64)


def others(folder: Path) -> list[tuple[int, ...]]:
    found = read_header(folder / "model.safetensors", "m")
    return [tensor.shape for name, tensor in found.items() if not name.startswith("language_model.")]


def test_of_a_folder_by_the_shapes_of_its_tensors(recipe: Recipe) -> None:
    assert recipe.base.path is not None
    lock = lock_of(recipe)
    found = projector_bound.projector_bounds(recipe, lock, describe(recipe, lock))
    shapes = others(recipe.base.path)
    assert tuple(found) == NAMES
    assert all(len(shape) != 2 for shape in shapes)
    places = 32  # of no image, and the class's own
    assert set(found.values()) == {4 * (sum(map(prod, shapes)) + places) + KEPT}


def test_of_a_repository_by_its_files_bytes(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    assert recipe.base.path is not None
    lock = lock_of(recipe)
    base = describe(recipe, lock)
    weights = sum(map(prod, others(recipe.base.path)))
    monkeypatch.setattr(projector_bound, "local_files", lambda recipe: None)
    config = json.loads((recipe.base.path / "config.json").read_text()) | {"torch_dtype": "bfloat16"}
    found = projector_bound.projector_bounds(recipe, replace(lock, config=config), base)
    assert found[NAMES[0]] > 2 * weights + KEPT
    assert found[NAMES[0]] < 2 * weights + KEPT + (64 << 10)  # a header's, and a layer's norms
    for odd in ({"torch_dtype": "float8"}, {"quantization_config": {"quant_method": "fp8"}}):
        assert not projector_bound.projector_bounds(recipe, replace(lock, config=config | odd), base)


def test_a_plan_counts_it(recipe: Recipe) -> None:
    lock = lock_of(recipe)
    base = describe(recipe, lock)
    found = projector_bound.projector_bounds(recipe, lock, base)
    total = sum(found.values())
    need = [disk_need(recipe, lock, base, (), 0, sizes) for sizes in (found, {})]
    assert need[0].most() - need[1].most() == total
    assert disk_bytes(recipe, lock, base, {}, (), found) - disk_bytes(recipe, lock, base, {}, (), {}) == total
    plain = plan_of(replace(recipe, projectors=()), recipe.path.parent)
    plan = replace(plain, projectors=dict.fromkeys(NAMES, ("F16", 0)), bounds={NAMES[0]: found[NAMES[0]]})
    lines = [line.split() for line in plan_text(plan) if line.startswith("mmproj-")]
    assert [line[2] for line in lines] == ["≤", "?"]
    assert [entry.get("at_most") for entry in plan.data()["projectors"]] == [found[NAMES[0]], None]
