"""Releases of strangers: numbers that no float holds, names that are longer than a page shows."""

import json
from pathlib import Path

import pytest

from projects import Project, new_project
from quantmill.quality.release_page import render_release
from quantmill.released import ReleasedFile, ReleaseFacts, bench, quality

HUGE = 10**400


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return new_project(tmp_path / "project")


def test_a_number_beyond_floats_is_none() -> None:
    found = quality({"quality": {"perplexity": HUGE, "top1": -HUGE, "kld": {"mean": HUGE, "max": 2}}})
    assert found is not None
    assert (found.perplexity, found.top1, found.kld) == (None, None, {"max": 2.0})
    assert bench({"rows": [{"ftype": "Q8_0", "test": "pp1", "ts": HUGE}]}) is None


def test_a_release_that_says_such_numbers_is_read(project: Project) -> None:
    project.edit('"BF16", "Q8_0", "Q4_K_M", "Q2_K"', '"Q8_0"')
    project.run("quantmill", "build", "small")
    tree = project.folder / "release" / "small"
    said = json.loads((tree / "release.json").read_text())
    (entry,) = [entry for entry in said["files"] if entry["name"] == "small-Q8_0.gguf"]
    entry["quality"] = {"bits": HUGE, "perplexity": HUGE, "kld": {"mean": HUGE}}
    (tree / "release.json").unlink()
    (tree / "release.json").write_text(json.dumps(said))
    for call in ("report release/small", "choose release/small"):
        assert "Traceback" not in project.run("quantmill", *call.split()).stderr


def test_files_that_are_called_alike_in_their_first_letters_are_compared_each() -> None:
    """Two of one ftype have their whole names, of which a table shows the first letters."""
    long = "Llama-3.3-70B-Instruct-abliterated-by-somebody"
    files = tuple(ReleasedFile(f"{long}-{size}-Q4_K_M.gguf", "Q4_K_M", size, 1) for size in (5, 7))
    release = ReleaseFacts("one", files, {}, None, {}, (), ())
    assert render_release(release, release).count("not known") == 2
