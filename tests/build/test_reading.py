"""Every object that a step reads was hashed by the process that reads it."""

import json
from pathlib import Path

import pytest

from projects import CALIBRATED, TINY, Project

WATCHED = """
import atexit, os, sys
from quantmill.steps import STEPS

opened, running = set(), []

def hook(event, arguments):
    if event == "open" and running and isinstance(arguments[0], (str, bytes, os.PathLike)):
        path = os.path.realpath(os.fsdecode(arguments[0]))
        if "/cas/" in path:
            opened.add(path)

sys.addaudithook(hook)

def watched(run):
    def call(*arguments):
        running.append(None)
        try:
            return run(*arguments)
        finally:
            running.pop()
    return call

for step in STEPS.values():
    object.__setattr__(step, "run", watched(step.run))

from quantmill.build import reading
find, lent = reading.Reading.find, set()

def finding(self, key):
    span = find(self, key)
    if span is not None:  # a range of it, which is hashed before it is copied (quant/sharing.py)
        lent.add(span.path.name)
    return span

reading.Reading.find = finding

def tell():
    import json
    from quantmill.store import objects
    hashed = {digest for _, _, digest in objects._read} | lent
    names = {name for path in opened if len(name := os.path.basename(path)) == 64}
    json.dump({"opened": sorted(names), "not hashed": sorted(names - hashed)}, open("told.json", "w"))

atexit.register(tell)
"""


def told(project: Project) -> dict[str, list[str]]:
    found: dict[str, list[str]] = json.loads((project.folder / "told.json").read_text())
    (project.folder / "told.json").unlink()
    return found


@pytest.mark.parametrize("jobs", ["1", "3"])
def test_every_object_that_a_step_reads_was_hashed(jobs: str, project: Project) -> None:
    """In a whole build, and in one that finds most of it in the store: a file more, and another calibration text."""
    project.recipe.write_text(CALIBRATED)
    text = project.folder / "recipes" / "text.txt"
    text.write_bytes((TINY / "calibration.txt").read_bytes()[:20_000])
    (project.folder / "sitecustomize.py").write_text(WATCHED)
    watching = {"PYTHONPATH": str(project.folder)}
    project.run("doit", "-n", jobs, **watching)
    found = told(project)
    assert len(found["opened"]) > 5
    assert found["not hashed"] == []
    project.edit('"Q2_K"', '"Q2_K", "Q6_K"')
    project.run("doit", "-n", jobs, **watching)
    found = told(project)
    assert len(found["opened"]) > 3
    assert found["not hashed"] == []
    text.write_bytes(text.read_bytes()[:15_000])
    project.run("doit", "-n", jobs, **watching)
    assert told(project)["not hashed"] == []


def test_a_file_that_was_damaged_as_it_was_brought_in_is_brought_in_again(project: Project) -> None:
    """Before it is hashed: its key knows what its digest ought to be."""
    (project.folder / "sitecustomize.py").write_text(
        """
import os, quantmill.steps.download as d
run = d.STEP.run
def damaging(inputs, params, out, context):
    made = run(inputs, params, out, context)
    if not os.path.exists("damaged"):
        open("damaged", "w").close()
        (out / "config.json").write_bytes(b"{}")
    return made
object.__setattr__(d.STEP, "run", damaging)
"""
    )
    ran = project.ran("doit", PYTHONPATH=str(project.folder))
    assert (project.folder / "damaged").exists()
    assert "release:small" in ran


def test_a_step_that_fails_over_what_is_damaged_is_run_again(project: Project) -> None:
    """Its own complaint is not told: the input is made anew."""
    project.run("doit")
    pointer = json.loads((project.folder / "build/small/index.json").read_text())
    digest = pointer["tensors.json"]["sha256"]
    path = Path(project.folder / "cache" / "cas" / digest[:2] / digest)
    path.chmod(0o644)
    path.write_bytes(b"{" * path.stat().st_size)
    project.edit('"Q2_K"', '"Q2_K", "Q6_K"')
    ran = project.ran("doit")
    assert "index:small" in ran
    assert "quant:small/Q6_K" in ran
