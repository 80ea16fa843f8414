"""build --check: a sample of tensors is quantized twice, and what differs fails the step."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from projects import CALIBRATED, RECIPE, TINY, Project, wrong_machine
from quantmill.quant.double_check import chosen
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
