"""The type of a converted base that a recipe does not name: the one that the tag's converter chooses by the weights."""

import json
from pathlib import Path

import pytest

from convert_golden import later_models, models
from quantmill.build.graph import graph
from quantmill.disk import sha256_file
from quantmill.errors import UsageError
from quantmill.recipe import lock as locks
from quantmill.recipe.recipe import Recipe, load

HALF, WHOLE, MIXED = "gemma-3-1b-it", "sampled-whole", "Qwen3-linear"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name, build in {**models.MODELS, **later_models.MODELS}.items():
        if name in (HALF, WHOLE, MIXED):
            build(folder / name)
    return folder


def recipe(folder: Path, tag: str, base: str) -> Recipe:
    path = folder / "r.toml"
    path.write_text(f'llama_cpp = "{tag}"\n[base]\n{base}\n[quants]\nmatrix = ["Q8_0"]\n')
    return load(path)


@pytest.mark.parametrize(
    ("tag", "name", "more", "type_"),
    [
        ("b5490", HALF, "", "BF16"),
        ("b7769", HALF, "", "BF16"),
        ("b8643", HALF, "", "F16"),
        ("b11312", HALF, "", "F16"),
        ("b11312", HALF, 'type = "BF16"', "BF16"),
        ("b11312", WHOLE, "", "F16"),
        ("b11312", MIXED, "", "BF16"),
        ("b5490", HALF, 'type = "auto"', "F16"),
        ("b5490", WHOLE, 'type = "auto"', "BF16"),
        ("b11312", WHOLE, 'type = "auto"', "F16"),
    ],
)
def test_a_folder_is_made_into_what_its_weights_are(
    built: Path, tmp_path: Path, tag: str, name: str, more: str, type_: str
) -> None:
    wanted = recipe(tmp_path, tag, f'path = "{built / name}"\n{more}')
    assert wanted.base.type == type_
    (node,) = (node for node in graph(wanted, locks.write(wanted, sha256_file)).values() if node.step.name == "convert")
    assert node.params["type"] == type_
    later = {"b5490": None, "b7769": "b6133", "b8643": "b8643", "b11312": "b11312"}[tag]
    assert node.params.get("converter") == later


def test_a_folder_without_weights_is_said_by_the_lock(built: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_bytes((built / HALF / "config.json").read_bytes())
    wanted = recipe(tmp_path, "b11312", 'path = "model"')
    assert wanted.base.type == "BF16"
    with pytest.raises(UsageError, match=r"there are no model\*\.safetensors files"):
        locks.write(wanted, sha256_file)


@pytest.mark.parametrize(
    ("stated", "more", "chosen"),
    [
        ({"torch_dtype": "bfloat16"}, "", None),
        ({}, "", None),
        ({"dtype": "float16"}, "", "F16"),
        ({"torch_dtype": "float32"}, "", "F16"),
        ({"text_config": {"torch_dtype": "float16"}}, 'type = "auto"', "F16"),
        ({"torch_dtype": "float16"}, 'type = "BF16"', None),
    ],
)
def test_a_repository_of_other_weights_wants_a_type(
    built: Path, tmp_path: Path, stated: dict[str, object], more: str, chosen: str | None
) -> None:
    wanted = recipe(tmp_path, "b11312", f'repo = "org/model"\n{more}')
    assert wanted.base.type == "BF16"
    config = json.loads((built / WHOLE / "config.json").read_text()) | stated
    if chosen is None:
        locks._check_type(wanted, config)
        return
    with pytest.raises(UsageError) as error:
        locks._check_type(wanted, config)
    assert str(error.value) == (
        f"{tmp_path}/r.toml: base.type: by config.json llama.cpp b11312 makes F16 of these weights, which the recipe "
        'of a Hub repository has to say; write type = "F16", or another'
    )


def test_auto_is_nothing_to_a_gguf_base(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"base\.type: 'auto' is not one of BF16, F16, F32"):
        recipe(tmp_path, "b11312", 'gguf = "base.gguf"\ntype = "auto"')
