"""The disk that a plan says a build takes which publishes each file when it is made."""

import shutil
from pathlib import Path

import pytest

from projects import ROOT
from quantmill.forecast.plan import plan_of
from quantmill.forecast.plan_text import plan_text
from quantmill.recipe.recipe import load

BASE = 65.5e9  # bytes of a model of 32 G weights in BF16


def as_built(folder: Path, name: str, more: str = "") -> Path:
    """The repository's recipe of that name, published as it is built, with its lock beside it."""
    text = (ROOT / "recipes" / f"{name}.toml").read_text()
    shutil.copy(ROOT / "recipes" / f"{name}.lock", folder)
    path = folder / f"{name}.toml"
    path.write_text(text.rstrip() + f"\nas_built = true\n{more}")
    return path


@pytest.mark.parametrize("name", ["inf-o1-pi0", "olympiccoder-32b", "qwq-32b-rpr-v4"])
def test_a_release_of_32b_fits_200_gb(name: str, tmp_path: Path) -> None:
    plan = plan_of(load(as_built(tmp_path, name)), tmp_path)
    assert plan.disk_bytes > 590e9
    assert plan.disk_peak is not None
    # The base, its own two shards while Q8_0 is made.
    assert plan.disk_peak == pytest.approx(2 * BASE + 34.8e9, rel=0.01)
    assert plan.disk_peak < 200e9
    (said,) = (line for line in plan_text(plan) if line.startswith("disk "))
    assert said.startswith("disk 165.89 GB at most, as files go when they are published, memory ")
    alone = plan_of(load(as_built(tmp_path, name, "keep_files = 1\n")), tmp_path)
    assert alone.disk_peak == pytest.approx(2 * BASE, rel=0.01)
    assert alone.shared_weights < plan.shared_weights
