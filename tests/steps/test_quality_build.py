"""Quality in a build: measured files, gates, texts that overlap, and what a change measures anew."""

import json
import shutil
from collections.abc import Callable

import pytest

from projects import RECIPE, TINY, Project

MEASURED = RECIPE + '\n[evaluation]\ntext = "tiny/evaluation.txt"\nchunks = 2\n'


@pytest.fixture
def measured(make_project: Callable[..., Project]) -> Project:
    project = make_project(text=MEASURED)
    for name in ("calibration.txt", "evaluation.txt"):
        shutil.copy(TINY / name, project.folder / "recipes" / "tiny" / name)
    return project


def test_a_release_is_measured_and_a_gate_measures_nothing_anew(measured: Project) -> None:
    measured.run("quantmill", "build", "small")
    listed = json.loads(measured.release()["release.json"])["files"]
    quality = {file["ftype"]: file["quality"] for file in listed if "quality" in file}
    assert quality["BF16"]["perplexity"] > 1
    assert 0 < quality["Q8_0"]["kld"]["mean"] < quality["Q2_K"]["kld"]["mean"] < 1
    assert "tensors" not in quality["Q2_K"]
    assert b"<svg" in measured.release()["chart.svg"]
    assert b"Q2_K" in measured.release()["report.html"]
    assert b"chart.svg" in measured.release()["README.md"]
    measured.edit("[evaluation]", "[verify]\nmax_kld = 1.5\nno_fallback = true\n\n[evaluation]")
    ran = measured.ran("quantmill", "build", "small")
    assert {name.partition(":")[0] for name in ran} == {"verify", "release"}  # whose recipe is another
    measured.edit("max_kld = 1.5", "max_kld = 0.000001")
    failed = measured.run("quantmill", "build", "small", check=1)
    assert "its mean KL divergence to the base is" in failed.stderr + failed.stdout
    assert "and the recipe's max_kld is 1e-06" in failed.stderr + failed.stdout


def test_an_evaluation_text_that_was_calibrated_with_is_refused(measured: Project) -> None:
    measured.edit("[evaluation]", '[calibration]\ntext = "tiny/seen.txt"\nchunks = 2\n\n[evaluation]')
    folder = measured.folder / "recipes" / "tiny"
    text = (folder / "evaluation.txt").read_text()
    (folder / "seen.txt").write_text((folder / "calibration.txt").read_text() + text[5000:9000])
    failed = measured.run("quantmill", "build", "small", check=2)
    said = failed.stderr + failed.stdout
    assert "preflight:small: tiny/evaluation.txt: shares " in said
    assert "the calibration text tiny/seen.txt; measure with a text that the importance matrix has not seen" in said
    assert "convert:small" not in said  # said before anything that takes long


def test_a_text_that_cannot_be_evaluated_is_told_before_the_base_is_made(measured: Project) -> None:
    text = measured.folder / "recipes" / "tiny" / "evaluation.txt"
    for data, message in (
        (b"ten tokens or so, and no more", "its 29 bytes are too few; at least 1024 tokens are needed"),
        (b"\xfe" * 5000, "not UTF-8: byte 0 begins no character; save the text as UTF-8"),
    ):
        text.write_bytes(data)
        failed = measured.run("quantmill", "build", "small", check=2)
        assert failed.stderr == f"quantmill: preflight:small: tiny/evaluation.txt: {message}\n"
        assert "convert:small" not in failed.stdout


def test_another_calibration_text_does_not_evaluate_the_base_anew(measured: Project) -> None:
    measured.edit("[evaluation]", '[calibration]\ntext = "tiny/calibration.txt"\nchunks = 2\n\n[evaluation]')
    measured.run("quantmill", "build", "small", "--only", "Q8_0")
    text = measured.folder / "recipes" / "tiny" / "calibration.txt"
    text.write_text(text.read_text()[1000:])
    ran = {name.partition(":")[0] for name in measured.ran("quantmill", "build", "small", "--only", "Q8_0")}
    assert {"imatrix", "preflight"} <= ran
    assert not ran & {"convert", "evaluate"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("chunks = 2", "chunks = 0", "evaluation.chunks: 0 chunks measure nothing; leave it out for all"),
        (
            "chunks = 2",
            "n_ctx = 8",
            "evaluation.n_ctx: 8 leaves a batch of fewer than 16 tokens; choose 512, say",
        ),
        (
            "chunks = 2",
            "n_ctx = 520",
            "evaluation.n_ctx: 520 leaves a batch of fewer than 16 tokens; choose 512, say",
        ),
        ("chunks = 2", 'arithmetic = "f16"', "evaluation.arithmetic: 'f16' is not one of f32, bf16x2"),
        (
            "[evaluation]",
            "[verify]\nmin_top1 = 1.5\n[evaluation]",
            "verify.min_top1: 1.5 is no share; give a number from 0 to 1",
        ),
        ('text = "tiny/evaluation.txt"', "", "evaluation: give either `text`, a file's path, or `url`"),
    ],
)
def test_what_a_recipe_says_wrong(measured: Project, old: str, new: str, message: str) -> None:
    measured.edit(old, new)
    failed = measured.run("quantmill", "plan", "small", check=2)
    assert failed.stderr == f"quantmill: recipes/small.toml: {message}\n"


def test_a_gate_without_a_text_is_refused(make_project: Callable[..., Project]) -> None:
    project = make_project(text=RECIPE + "\n[verify]\nmax_kld = 0.1\n")
    failed = project.run("quantmill", "plan", "small", check=2)
    assert "verify.max_kld: nothing is measured without a text; give one in [evaluation]" in failed.stderr
