"""Every object that a step reads was hashed by the process that reads it."""

import json
from pathlib import Path

import pytest

from projects import CALIBRATED, TINY, Project
from quantmill.artifact import Artifact
from quantmill.store.descent import records
from quantmill.store.key import StepKey
from quantmill.store.local import Store

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


def test_a_listing_that_was_damaged_as_it_was_written_is_written_again(project: Project) -> None:
    program = """
import dataclasses, os, quantmill.steps as steps
from quantmill.cli import main

step, times = steps.STEPS["preflight"], []
def run(inputs, params, out, context):
    step.run(inputs, params, out, context)
    if not times:
        (out / "preflight.json").write_text("{x")
    times.append(1)
steps.STEPS["preflight"] = dataclasses.replace(step, run=run)
main(["build", "small"])
"""
    done = project.run("python", "-c", program)
    assert "preflight.json is no JSON, once it is written: it is made anew" in done.stdout
    assert "0 failed" in done.stdout


def test_what_an_older_build_recorded_of_it_is_no_wedge(project: Project) -> None:
    project.run("quantmill", "build", "small")
    store = Store(project.folder / "cache")
    (name,) = (name for name, found in records(store.root) if found["key"]["step"] == "preflight")
    (found,) = (found for other, found in records(store.root) if other == name)
    broken = project.folder / "broken"
    broken.write_text("{x")
    outputs = {name: Artifact(store.object_path(fact["sha256"]), **fact) for name, fact in found["outputs"].items()}
    store._write_record(StepKey(**found["key"]), {**outputs, "preflight.json": store.adopt(broken)}, {})
    (project.folder / "build/small/preflight.json").unlink()
    assert "preflight.json cannot be read: it is made anew" in project.run("quantmill", "build", "small").stdout
    assert project.run("quantmill", "build", "small").stdout.startswith("nothing to do")
