"""Checkpoints in FP8: what their matrices are as floats, and what is said of those that cannot be."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert_golden.classes.checkpoint import Checkpoint
from convert_golden.classes.registry import CHECKPOINTS
from quantmill.architectures.errors import ModelError
from quantmill.architectures.json_file import model_files
from quantmill.artifact import Context
from quantmill.checkpoint import fp8
from quantmill.checkpoint.conversion import convert
from quantmill.checkpoint.safetensors import Weight
from quantmill.errors import QuantmillError
from quantmill.reference.spans import of_tag

SMALL = CHECKPOINTS["Qwen3ForCausalLM-FP8"]
DOWN = "model.layers.0.mlp.down_proj.weight"
CONFIG = {"quantization_config": {"quant_method": "fp8", "weight_block_size": [2, 3]}}


def matrix(codes: Any, scales: Any) -> dict[str, Weight]:
    codes, scales = np.array(codes, np.uint8), np.array(scales, "<f4")
    found = (("w", "F8_E4M3", codes), ("w_scale_inv", "F32", scales))
    return {name: Weight(name, dtype, data.shape, "f", data.reshape(-1).view(np.uint8)) for name, dtype, data in found}


def test_every_code_is_its_number() -> None:
    """Of IEEE's layout without infinities: 0x38 is 1, 0x7e the largest, 0x01 the smallest."""
    weights = matrix([[0x38, 0xB8, 0x7E, 0x01], [0x00, 0x3C, 0x08, 0x80]], [[1, 2]])
    found = fp8.floats(CONFIG, weights, "w", slice(None))
    assert found.tolist() == [[1, -1, 448, 2 * 2.0**-9], [0, 1.5, 2.0**-6, -0.0]]
    assert np.isnan(fp8.floats(CONFIG, matrix([[0x7F, 0xFF]], [[1]]), "w", slice(None))).all()


def test_rows_are_those_of_the_whole() -> None:
    codes = np.random.default_rng(1).integers(0, 127, (5, 7))
    weights = matrix(codes, np.arange(1, 10).reshape(3, 3))
    whole = fp8.floats(CONFIG, weights, "w", slice(None))
    assert np.array_equal(fp8.floats(CONFIG, weights, "w", slice(3, 5)), whole[3:5])
    assert np.array_equal(fp8.floats(CONFIG, weights, "w", np.array([4, 0])), whole[[4, 0]])


def refused(tmp_path: Path, checkpoint: Checkpoint, tag: str = "b11312") -> str:
    checkpoint.write(tmp_path / "model")
    with pytest.raises(QuantmillError) as error:
        files, out = model_files(tmp_path / "model"), tmp_path / "m.gguf"
        convert(files, out, "BF16", "m", "qwen2", Context(), reference=of_tag(tag))
    return str(error.value)


@pytest.mark.parametrize(
    ("scales", "said"),
    [
        ("[1-1].mlp.down_proj.weight_scale_inv 2x2 BF16", f"has no '{DOWN}_scale_inv'; a matrix with its scales"),
        ("[0-1].mlp.down_proj.weight_scale_inv 2x1 BF16", "is BF16 of shape [2, 1]; BF16, F16 or F32 of [2, 2] would"),
        ("[0-1].mlp.down_proj.weight_scale_inv 2x2 U8", "is U8 of shape [2, 2]; BF16, F16 or F32 of [2, 2] would be"),
    ],
)
def test_scales_that_are_not_the_matrixs(tmp_path: Path, scales: str, said: str) -> None:
    lines = SMALL.tensors.replace("[0-1].mlp.down_proj.weight_scale_inv 2x2 BF16", scales)
    assert lines != SMALL.tensors
    assert said in refused(tmp_path, Checkpoint(SMALL.config, lines, SMALL.files, "qwen2"))


def test_older_converters_have_none(tmp_path: Path) -> None:
    said = refused(tmp_path, SMALL, "b5490")
    assert said.startswith("config.json: a checkpoint in FP8 is converted as llama.cpp b11312 and later do it, not as ")


@pytest.mark.parametrize(
    "change",
    [{"weight_block_size": None}, {"weight_block_size": [128]}, {"fmt": "e5m2"}, {"activation_scheme": "static"}],
)
def test_other_kinds_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    config = {**SMALL.config, "quantization_config": {**SMALL.config["quantization_config"], **change}}
    said = refused(tmp_path, Checkpoint(config, SMALL.tensors, SMALL.files, "qwen2"))
    assert said.startswith("config.json: the weights are quantized already (fp8, `quantization_config`)")


def test_a_matrix_in_fp8_that_config_json_does_not_tell_of() -> None:
    with pytest.raises(ModelError, match=r"is F8_E4M3; BF16, F16, F32 and F64 can be converted$"):
        fp8.check({}, matrix([[1]], [[1]]), "w")


def test_scales_alone_belong_to_none(tmp_path: Path) -> None:
    lines = SMALL.tensors + "model.layers.0.mlp.nothing.weight_scale_inv 1x1 BF16\n"
    said = refused(tmp_path, Checkpoint(SMALL.config, lines, SMALL.files, "qwen2"))
    assert "'model.layers.0.mlp.nothing.weight_scale_inv', for which Qwen3ForCausalLM has no place" in said
