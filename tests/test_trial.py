"""The trial of the tables: what CONTRIBUTING.md says that a new step takes, done to a copy of the package.

The copy is what a person would have after the change: it builds, explains, plans, simulates, and runs on workers.
"""

import json
import shutil
from pathlib import Path

import quantmill
from projects import Project
from quantmill import gguf

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


STEP = Step(
    name="count", version=7, doc="count the base's tensors", run=run, outputs=("count.json",), cost=cost
)
'''
# The wiring: in each file, what stands there and what does then.
LAST = 'yield Node(task("release", recipe), STEPS["release"], facts, (*files, *reports, *pages)'
STEP_WIRING = {
    "steps/__init__.py": {
        "    convert,\n": "    convert,\n    count,\n",
        "wave, index, quant, part),\n": "wave, index, quant, part),\n    count,\n",
    },
    "build/graph.py": {
        "        yield index\n": (
            "        yield index\n"
            '        reads = (Edge(index.name, "tensors.json", "tensors.json"),)\n'
            '        yield Node(task("count", recipe), STEPS["count"], {"least": 2}, reads)\n'
        ),
        LAST: f'{LAST}, after=(task("count", recipe),)',
    },
}
SPAN = '''"""llama.cpp b6000 to b6010, as far as a trial goes."""

from dataclasses import replace

from quantmill.gguf.types import ValueType
from quantmill.reference.llama_cpp.b4867 import B4867

B6000 = replace(
    B4867,
    first=6000,
    last=6010,
    generation=77,
    mix=B4867.mix | {("attn_k", "Q4_K_M"): "Q6_K"},
    header=replace(B4867.header, keys=B4867.header.keys | {"toy.version": (ValueType.UINT32, 7)}),
)
'''
SPAN_WIRING = {
    "reference/spans.py": {
        " 6122, ": " 6000, 6122, ",
    },
}


def changed(folder: Path, files: dict[str, str], wiring: dict[str, dict[str, str]]) -> Path:
    """A copy of the package below `folder` with new files and other lines; what PYTHONPATH has to name."""
    package = folder / "changed" / "quantmill"
    shutil.copytree(Path(str(quantmill.__file__)).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in files.items():
        assert not (package / name).exists()
        (package / name).write_text(text)
    for name, lines in wiring.items():
        text = (package / name).read_text()
        for old, new in lines.items():
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        (package / name).write_text(text)
    return package.parent


def test_a_step_is_a_file_and_its_wiring(project: Project, tmp_path: Path) -> None:
    with_step = str(changed(tmp_path, {"steps/count.py": STEP}, STEP_WIRING))

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


def test_a_span_is_a_file_and_a_row(project: Project, tmp_path: Path) -> None:
    """Planned, built, verified, simulated and run on workers by the new span's rules; no other room is told."""
    with_span = str(changed(tmp_path, {"reference/llama_cpp/of_2025/b6000.py": SPAN}, SPAN_WIRING))

    def run(*command: str, **environment: str) -> str:
        return project.run(*command, PYTHONPATH=with_span, **environment).stdout

    def sizes() -> dict[str, int]:
        return {
            file["ftype"]: file["bytes"] for file in json.loads(run("quantmill", "plan", "small", "--json"))["files"]
        }

    run("doit")
    old = sizes()
    project.edit("b5490", "b6005")
    assert run("quantmill", "explain", "convert:small") == "convert:small: run: generation 1 → 77\n"
    run("quantmill", "plan", "small", "--simulate")
    new = sizes()
    assert new["Q8_0"] == old["Q8_0"] + 32  # the key's 27 bytes, up to the alignment
    assert new["Q4_K_M"] > old["Q4_K_M"] + 32
    run("doit")
    file = project.folder / "release" / "small" / "small-Q4_K_M.gguf"
    assert file.stat().st_size == new["Q4_K_M"]
    with gguf.read(file) as made:
        assert made.metadata["toy.version"].value == 7
        assert {info.type.name for name, info in made.tensors.items() if "attn_k.weight" in name} == {"Q6_K"}
    release = project.release()
    shutil.rmtree(project.folder / "cache")
    shutil.rmtree(project.folder / "build")
    shutil.rmtree(project.folder / "release")
    assert "0 failed" in run(
        "quantmill", "build", "small", "--engine", "dask", "--workers", "2", QUANTMILL_CACHE="other"
    )
    assert project.release() == release
