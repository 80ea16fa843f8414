"""build --check: a sample of tensors is quantized twice, and what differs fails the step."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peer_quant.synthetic import MODELS, write_base
from projects import CALIBRATED, RECIPE, TINY, Project, wrong_machine
from quantmill import gguf
from quantmill.artifact import Artifact, Context
from quantmill.errors import QuantmillError
from quantmill.imatrix import Entry, encode
from quantmill.quant.double_check import chosen
from quantmill.quant.quantizer import quantize_file
from quantmill.steps import quant
from quantmill.steps.step import Sample
from quantmill.store.descent import records

ONE_FILE = RECIPE.replace('matrix = ["BF16", "Q8_0", "Q4_K_M", "Q2_K"]', 'matrix = ["Q4_K_M"]')


def test_a_sample_is_the_same_for_the_same_seed_and_holds_one_at_least() -> None:
    names = [f"blk.{number}.weight" for number in range(200)]
    assert chosen(names, 0.02, "a") == chosen(names[::-1], 0.02, "a")
    assert len(chosen(names, 0.02, "a")) == 4
    assert chosen(names, 0.02, "a") != chosen(names, 0.02, "b")
    assert len(chosen(names[:3], 0.02, "a")) == 1
    assert sorted(chosen(names, 1, "a")) == sorted(names)
    assert chosen([], 0.5, "a") == []


@pytest.mark.parametrize("which", ["max", "min"])
def test_a_machine_that_computes_wrongly_is_found(
    which: str, tmp_path: Path, make_project: Callable[..., Project]
) -> None:
    """In a tensor that is quantized, and in one that is copied."""
    project = make_project(text=ONE_FILE)
    path = wrong_machine(tmp_path / "site", os.environ.get("PYTHONPATH", ""), which)
    failed = project.run("quantmill", "build", "small", "--check", "100%", check=1, PYTHONPATH=path)
    assert "quant:small/Q4_K_M: " in failed.stderr
    assert " came out otherwise when made again on this machine, " in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not any(found["key"]["step"] == "quant" for _, found in records(project.folder / "cache"))
    project.run("quantmill", "build", "small", PYTHONPATH=path)  # unchecked, it is a release like any other


def test_a_check_changes_neither_keys_nor_bytes(make_project: Callable[..., Project]) -> None:
    """Also with an imatrix, and tensors that one file lends to another."""
    one, other = (make_project(name, CALIBRATED) for name in ("one", "other"))
    for project in (one, other):
        shutil.copy(TINY / "calibration.txt", project.folder / "recipes" / "text.txt")
    one.run("quantmill", "build", "small")
    other.run("quantmill", "build", "small", "--check", "100%")
    assert other.release() == one.release()
    assert {name for name, _ in records(one.folder / "cache")} == {name for name, _ in records(other.folder / "cache")}
    assert one.run("quantmill", "build", "small", "--check", "2%").stdout.startswith("nothing to do")


@pytest.mark.parametrize("share", ["2", "0%", "-1%", "101%", "x%", "nan%"])
def test_what_is_no_part_is_a_sentence(share: str, project: Project) -> None:
    failed = project.run("quantmill", "build", "small", f"--check={share}", check=2)
    assert f"argument --check: {share!r} is no part of a whole; write it like 2% or 100%" in failed.stderr


def test_what_a_recipe_weighs_or_quantizes_anew_is_made_again_so(tmp_path: Path) -> None:
    base, guide, first, out = (tmp_path / name for name in ("base", "guide", "first", "out"))
    write_base(base, MODELS["dense"], "F16")
    with gguf.read(base) as file:
        columns = {name: info.shape[0] for name, info in file.tensors.items() if "blk." in name and len(info.shape) > 1}
    guide.write_bytes(encode([Entry(name, 1, np.zeros(n, np.float32)) for name, n in columns.items()], b"text", 1))
    quantize_file(base, first, "Q8_0")
    params: dict[str, Any] = {"ftype": "Q6_K", "zero_as_one": True, "allow_requantize": True}
    quantize_file(first, out, "Q6_K", imatrix=guide, zero_as_one=True, allow_requantize=True)
    inputs = {"model.gguf": Artifact(first, "", 0), "imatrix.dat": Artifact(guide, "", 0)}

    def again(params: dict[str, Any]) -> list[str]:
        work = tmp_path / "work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        return quant.recheck(inputs, params, {"model.gguf": out}, work, Context(), Sample(1.0, "seed"))

    assert again(params) == []
    assert set(columns) <= set(again({**params, "zero_as_one": False}))
    with pytest.raises(QuantmillError, match="is Q8_0 in the base, and quantizing it again loses quality"):
        again({**params, "allow_requantize": False})
