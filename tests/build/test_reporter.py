"""What a build says of itself: how many of its tasks are done, in what each counts, the time left, and for whom it waits."""

import fcntl
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from projects import CALIBRATED, RECIPE, TINY, Project
from quantmill.build.graph import graph
from quantmill.build.time_left import TimeLeft
from quantmill.forecast import estimates
from quantmill.recipe import lock as locks
from quantmill.recipe.recipe import load
from quantmill.steps import STEPS

EVALUATED = '[evaluation]\ntext = "text.txt"\nn_ctx = 128\n[bench]\ntests = ["pp8"]\nftypes = ["Q8_0"]\nrepetitions = 2\n'


def on_a_terminal(project: Project, *command: str) -> str:
    """What a person would see."""
    master, slave = pty.openpty()
    program = str(Path(sys.executable).parent / command[0])
    environment = {**os.environ, "COLUMNS": "160", "TERM": "xterm"}
    with subprocess.Popen([program, *command[1:]], cwd=project.folder, stdout=slave, stderr=slave, env=environment) as run:
        os.close(slave)
        seen = b""
        while True:
            try:
                piece = os.read(master, 1 << 16)
            except OSError:  # EIO: the other end is closed
                break
            seen += piece
            if not piece:
                break
    os.close(master)
    assert run.returncode == 0, seen
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())


def text(project: Project) -> None:
    (project.folder / "recipes" / "text.txt").write_bytes((TINY / "calibration.txt").read_bytes()[:20_000])


@pytest.mark.parametrize("command", [("doit", "release:small"), ("quantmill", "build", "small")])
def test_tasks_and_their_units_on_a_terminal(project: Project, command: tuple[str, ...]) -> None:
    text(project)
    project.recipe.write_text(RECIPE.replace('["BF16", "Q8_0", "Q4_K_M", "Q2_K"]', '["Q8_0"]') + EVALUATED)
    seen = on_a_terminal(project, *command)
    total = re.search(r"(\d+) run, 0 from the store, 0 failed", seen)
    assert total
    assert f" of {total[1]} tasks" in seen
    assert re.search(r"evaluate:small .* \d+ of \d+ passes", seen)
    assert re.search(r"quality:small/Q8_0 .* \d+ of (\d+|\?) passes", seen)
    assert re.search(r"bench:small .* \d+ of (2|\?) runs", seen)
    assert not re.search(r"(evaluate|quality|bench):small\S* .*(bytes|kB|MB)", seen)


def test_without_a_terminal_a_line_tells_how_many_are_done(project: Project) -> None:
    program = "import quantmill.build.reporter as r, sys; r.OFTEN = 0; from quantmill.cli import main; main(sys.argv[1:])"
    done = project.run("python", "-c", program, "build", "small")
    found = [re.fullmatch(r"  (\d+) of (\d+) tasks", line) for line in done.stdout.splitlines()]
    counts = [(int(match[1]), int(match[2])) for match in found if match]
    total = counts[-1][1]
    assert counts == [(number, total) for number in range(1, total + 1)]


def test_every_step_counts_what_its_progress_counts() -> None:
    passes = {"evaluate", "quality", "imatrix", "wave", "sensitivity"}
    expected = {name: "passes" if name in passes else "runs" if name == "bench" else "bytes" for name in STEPS}
    assert {name: step.counts for name, step in STEPS.items()} == expected


def test_the_seconds_of_every_task_are_thought_of(project: Project) -> None:
    text(project)
    project.recipe.write_text(CALIBRATED)
    project.run("quantmill", "lock", "small")
    recipe = load(project.recipe)
    lock = locks.load(recipe)
    assert lock is not None
    costs = estimates(recipe, lock)
    found = {name: node.step.cost(node, costs).seconds for name, node in graph(recipe, lock).items()}
    assert found["quant:small/IQ2_XXS"] > 0
    assert found["imatrix:small"] > 0
    assert found["release:small"] == 0


def test_time_left_follows_what_was_measured() -> None:
    left = TimeLeft({"a": 10.0, "b": 30.0, "free": 0.0})
    assert left.left(0.0) is None
    left.begin("free", 0.0)
    left.end("free", 100.0)  # it says nothing of the others
    left.begin("a", 100.0)
    assert left.left(101.0) is None
    left.advance("a", 0.5)
    assert left.left(110.0) == pytest.approx(70.0)  # half of a took 10 s: the machine takes twice what was thought
    left.end("a", 120.0)
    assert left.left(120.0) == pytest.approx(60.0)
    left.begin("b", 120.0)
    left.advance("b", 0.5)
    assert left.left(150.0) == pytest.approx(30.0)
    left.end("b", 180.0)
    assert left.left(180.0) == pytest.approx(0.0)


def test_what_is_up_to_date_is_not_waited_for() -> None:
    left = TimeLeft({"a": 10.0, "b": 1000.0})
    left.begin("a", 0.0)
    left.end("b", 1.0)
    left.advance("a", 0.5)
    assert left.left(5.0) == pytest.approx(5.0)


def test_a_second_build_says_for_whom_it_waits(project: Project) -> None:
    project.run("quantmill", "build", "small")
    for path in [*(project.folder / "cache" / "ac").iterdir()]:
        path.unlink()
    handles = []
    for path in (project.folder / "cache" / "lock").iterdir():  # as a build holds them that computes these
        if path.name != "gc":
            handle = os.open(path, os.O_RDWR)
            fcntl.flock(handle, fcntl.LOCK_EX)
            os.write(handle, b"process 7 of other")
            handles.append(handle)
    program = str(Path(sys.executable).parent / "quantmill")
    with subprocess.Popen(
        [program, "build", "small"], cwd=project.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as run:
        assert run.stdout is not None
        line = run.stdout.readline()
        for handle in handles:
            os.close(handle)
        rest = run.communicate(timeout=300)[0]
    assert run.returncode == 0
    waiting = re.fullmatch(r"  note: (\S+) waits for process 7 of other.*, which computes it\n", line)
    assert waiting
    assert f"{waiting[1]} waits for" not in rest
