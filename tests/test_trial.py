"""The trial of the tables: what CONTRIBUTING.md says that a new step takes, done to a copy of the package.

The copy is what a person would have after the change: it builds, explains, plans, simulates, and runs on workers.
"""

import json
import shutil
from pathlib import Path

import pytest

import quantmill
from projects import Project

STEP = '''"""count: how many tensors the base has."""

import json
from pathlib import Path
from typing import TypedDict

from quantmill.artifact import Context
from quantmill.steps.step import Cost, Estimates, Inputs, Step, Task


class Params(TypedDict):
    """`least`: fewer tensors fail."""

    least: int


def run(inputs: Inputs, params: Params, out: Path, context: Context) -> None:
    """Write `count.json` from the base's `tensors.json`."""
    found = len(json.loads(inputs["tensors.json"].path.read_bytes()))
    assert found >= params["least"]
    (out / "count.json").write_text(json.dumps(found))


def cost(task: Task, estimates: Estimates) -> Cost:
    """A minute, and a quarter of the base."""
    return Cost(60.0, estimates.base_bytes // 4)


STEP = Step(name="count", version=7, doc="count the base's tensors", run=run, cost=cost)
'''
# The lines of the wiring: after which one, and what is put there.
WIRING = {
    "steps/__init__.py": {
        "    convert,\n": "    count,\n",
        "    *(download, convert, preflight, imatrix, wave, index, quant, part),\n": "    count,\n",
    },
    "build/graph.py": {
        "        yield index\n": (
            '        reads = (Edge(index.name, "tensors.json", "tensors.json"),)\n'
            '        yield Node(task("count", recipe), STEPS["count"], {"least": 2}, reads)\n'
        ),
    },
}
AFTER = 'yield Node(task("release", recipe), STEPS["release"], facts, (*files, *reports, *pages)'


def changed(folder: Path, files: dict[str, str], wiring: dict[str, dict[str, str]]) -> Path:
    """A copy of the package below `folder` with new files, and lines put after others; what PYTHONPATH has to name."""
    package = folder / "changed" / "quantmill"
    shutil.copytree(Path(str(quantmill.__file__)).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in files.items():
        assert not (package / name).exists()
        (package / name).write_text(text)
    for name, lines in wiring.items():
        text = (package / name).read_text()
        for line, more in lines.items():
            assert text.count(line) == 1, line
            text = text.replace(line, line + more)
        (package / name).write_text(text)
    return package.parent


@pytest.fixture
def with_step(tmp_path: Path) -> str:
    path = changed(tmp_path, {"steps/count.py": STEP}, WIRING)
    graph = path / "quantmill" / "build" / "graph.py"
    assert graph.read_text().count(AFTER) == 1
    graph.write_text(graph.read_text().replace(AFTER, f'{AFTER}, after=(task("count", recipe),)'))
    return str(path)


def test_a_step_is_a_file_and_its_wiring(project: Project, with_step: str) -> None:
    def run(*command: str, **environment: str) -> str:
        return project.run(*command, PYTHONPATH=with_step, **environment).stdout

    tasks = {task["name"]: task for task in json.loads(run("quantmill", "plan", "small", "--json"))["tasks"]}
    assert tasks["count:small"]["status"] == "after"
    simulated = [
        json.loads(project.run("quantmill", "plan", "small", "--simulate", "--json", **environment).stdout)
        for environment in ({"PYTHONPATH": with_step}, {})
    ]
    assert simulated[0]["tasks"] == simulated[1]["tasks"] + 1
    assert simulated[0]["thread_seconds"] > 59 + simulated[1]["thread_seconds"]
    assert simulated[0]["store_bytes"] > simulated[1]["store_bytes"]
    assert "count:small" in run("doit", "list", "--all")
    assert "count:small\n" in run("doit")
    pointer = json.loads((project.folder / "build" / "small" / "count.json").read_bytes())
    assert set(pointer) == {"count.json"}
    assert run("quantmill", "explain", "count:small") == "count:small: up to date\n"
    listed = json.loads((project.folder / "release" / "small" / "provenance.json").read_bytes())
    assert listed["predicate"]["buildDefinition"]["resolvedDependencies"][-1]["annotations"]["steps"]["count"] == 7
    shutil.rmtree(project.folder / "cache")
    shutil.rmtree(project.folder / "build")
    done = run("quantmill", "build", "small", "--engine", "dask", "--workers", "2", QUANTMILL_CACHE="other")
    assert "count:small\n" in done
    assert json.loads((project.folder / "build" / "small" / "count.json").read_bytes()) == pointer
