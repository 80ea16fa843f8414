"""Experts in MXFP4, whose blocks are put into the order of ggml's."""

from pathlib import Path

import numpy as np
import pytest

from convert_golden.classes.checkpoint import Checkpoint
from convert_golden.classes.registry import CHECKPOINTS
from quantmill import gguf
from quantmill.architectures.json_file import model_files
from quantmill.artifact import Context
from quantmill.checkpoint import weights
from quantmill.checkpoint.changes import CHANGES
from quantmill.checkpoint.conversion import convert
from quantmill.errors import QuantmillError

SMALL = CHECKPOINTS["GptOssForCausalLM-MXFP4"]


def test_a_byte_holds_numbers_that_are_16_apart() -> None:
    numbers = np.arange(32, dtype=np.uint8) % 16
    codes = (numbers[0::2] | numbers[1::2] << 4).reshape(1, 1, 1, 16)
    found, dtype = CHANGES["blocks"].rows((32, 1, 1), [codes, np.array([[[127]]], np.uint8)], "U8", 0, 1)
    assert (dtype, found[0, 0], found.shape) == ("MXFP4", 127, (1, 17))
    assert np.array_equal(found[0, 1:] & 15, numbers[:16])
    assert np.array_equal(found[0, 1:] >> 4, numbers[16:])


def test_the_file_says_what_it_holds_and_the_type_that_is_asked_for_is_the_rest_s(tmp_path: Path) -> None:
    SMALL.write(tmp_path / "model")
    convert(model_files(tmp_path / "model"), tmp_path / "m.gguf", "F16", "m", "gpt-4o", Context())
    with gguf.read(tmp_path / "m.gguf") as file:
        assert file.metadata["general.file_type"].value == 38
        kinds = {name: tensor.type.name for name, tensor in file.tensors.items()}
    assert {kinds[f"blk.1.ffn_{part}_exps.weight"] for part in ("gate", "up", "down")} == {"MXFP4"}
    assert (kinds["token_embd.weight"], kinds["blk.0.ffn_up_exps.bias"]) == ("F16", "F32")


def test_chunks_are_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SMALL.write(tmp_path / "model")
    convert(model_files(tmp_path / "model"), tmp_path / "whole.gguf", "BF16", "m", "gpt-4o", Context())
    monkeypatch.setattr(weights, "CHUNK", 2000)
    convert(model_files(tmp_path / "model"), tmp_path / "parts.gguf", "BF16", "m", "gpt-4o", Context())
    assert (tmp_path / "parts.gguf").read_bytes() == (tmp_path / "whole.gguf").read_bytes()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "down_proj_scales 4x64x3 U8",
            "down_proj_scales 4x64x2 U8",
            "has shape [4, 64, 2]; by config.json it should be",
        ),
        ("down_proj_scales 4x64x3 U8", "down_proj_scales 4x64x3 F32", "is F32; U8 can be converted"),
        ("down_proj_blocks 4x64x3x16 U8", "down_proj_odd 4x64x3x16 U8", "down_proj_odd', for which GptOssForCausalLM"),
    ],
)
def test_what_is_no_mxfp4(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in SMALL.tensors
    Checkpoint(SMALL.config, SMALL.tensors.replace(old, new), SMALL.files).write(tmp_path / "model")
    with pytest.raises(QuantmillError) as error:
        convert(model_files(tmp_path / "model"), tmp_path / "m.gguf", "BF16", "m", "gpt-4o", Context())
    assert said in str(error.value)
    assert not (tmp_path / "m.gguf").exists()
