"""doit as a doit user drives it: commands, several recipes, names that do not exist, streams that are gone."""

import contextlib
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from projects import Project

HUB = 'llama_cpp = "b5490"\n[base]\nrepo = "some/model"\n[quants]\nmatrix = ["Q8_0"]\n'


def test_looking_asks_no_network_and_writes_no_lock(project: Project) -> None:
    (project.folder / "recipes" / "hub.toml").write_text(HUB)
    listed = project.run("doit", "list", "--all", "-q", HF_ENDPOINT="http://127.0.0.1:1").stdout.split()
    assert {"quant:hub/Q8_0", "quant:small/Q8_0"} <= set(listed)
    project.run("doit", "clean", HF_ENDPOINT="http://127.0.0.1:1")
    assert not list((project.folder / "recipes").glob("*.lock"))


def test_a_broken_recipe_hides_no_other(project: Project) -> None:
    (project.folder / "recipes" / "broken.toml").write_text(HUB.replace("Q8_0", "Q9"))
    (project.folder / "recipes" / "folder.toml").mkdir()
    done = project.run("doit", "list", "--all", "-q")
    assert "quant:small/Q8_0" in done.stdout
    assert done.stderr.startswith("quantmill: recipes/broken.toml: quants.matrix: Q9 is not an ftype")
    assert done.stderr.count("\n") == 1
    assert project.run("doit", "forget").returncode == 0
    failed = project.run("doit", "release:broken", check=2)
    assert failed.stderr.count("\n") == 1


def test_a_pattern_names_recipes_and_only_those_are_read(project: Project) -> None:
    recipes = project.folder / "recipes"
    (recipes / "broken.toml").write_text(HUB.replace("Q8_0", "Q9"))
    for name in ("a1", "a2"):
        text = project.recipe.read_text().replace('prefix = "small"', f'prefix = "{name}"')
        (recipes / f"{name}.toml").write_text(text)
    assert {"release:a1", "release:a2"} <= set(project.ran("doit", "release:a*"))
    assert sorted(path.name for path in (project.folder / "release").iterdir()) == ["a1", "a2"]
    assert project.run("doit", "release:a*", "quant:a1/Q8_0").stdout == "nothing to do: everything is up to date\n"
    assert "broken.toml" in project.run("doit", "release:*", check=2).stderr


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("quant:smal/Q8_0", "recipes/smal.toml: there is no such recipe (did you mean small?)"),
        ("releas:*", "no task matches releas:*; 'doit list --all' shows them"),
        ("quant:small/Q9*", "no task matches quant:small/Q9*; 'doit list --all' shows them"),
        ("quant:small/Q8_1", "there is no task quant:small/Q8_1 (did you mean quant:small/Q8_0?); 'doit list --all'"),
        ("nonsense", "there is no task nonsense; 'doit list --all' shows them"),
        ("run nonsense", "there is no task nonsense; 'doit list --all' shows them"),
        ("-n 2 -c --verbosity 1 nonsense", "there is no task nonsense; 'doit list --all' shows them"),
        ("quant:small/Q8_0 nonsense", "there is no task nonsense; 'doit list --all' shows them"),
        ("releas:small", "there is no task releas:small (did you mean release:small?); 'doit list --all' shows them"),
        ("release:", "there is no task release: (did you mean release?); 'doit list --all' shows them"),
        ("list recipe", "there is no task recipe"),
    ],
)
def test_a_task_that_does_not_exist(project: Project, task: str, message: str) -> None:
    failed = project.run("doit", *task.split(), check=2)
    assert failed.stderr.startswith(f"quantmill: {message}")
    assert failed.stderr.count("\n") == 1


def test_what_a_run_may_name(project: Project) -> None:
    """Tasks, groups, targets, variables and options of doit's; a wrong option is doit's own sentence and exit code."""
    project.run("doit", "-n", "2", "quant:small/Q8_0")
    pointer = project.folder / "build" / "small" / "quant" / "Q8_0.json"
    for call in (["--process", "2", "-v1", "a=1", "quant:small/Q8_0"], ["run", "download"], [str(pointer)]):
        project.run("doit", *call)
    for wrong in ("--nonsense", "list --bad", "-n x"):
        assert project.run("doit", *wrong.split(), check=3).stderr.startswith("ERROR: Error parsing ")
    for wrong in ("--nonsense", "-n x", "-n"):
        said = project.run("quantmill", "build", "small", *wrong.split(), check=2).stderr
        assert said.splitlines()[-1].startswith(("quantmill: error: ", "quantmill build: error: "))


def test_a_list_whose_reader_leaves_ends_in_silence(project: Project) -> None:
    doit = Path(sys.executable).parent / "doit"
    with subprocess.Popen(
        [doit, "list", "--all"], cwd=project.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        run.stdout.close()
        assert run.stderr.read() == b""


def test_a_default_recipe_that_is_gone(project: Project) -> None:
    project.recipe.rename(project.recipe.with_name("other.toml"))
    assert project.run("doit", check=2).stderr == "quantmill: recipes/small.toml: there is no such recipe\n"
    assert project.ran("doit", "quant:other/*")[-1] == "quant:other/Q8_0"


@pytest.mark.parametrize(
    "call", ["", "clean", "clean -n", "clean -c", "forget", "forget -s", "info release:small", "clean release:small"]
)
def test_a_default_recipe_that_cannot_be_used(project: Project, call: str) -> None:
    """Commands that take the default task where none is named, and those that name it."""
    project.recipe.rename(project.recipe.with_name("other.toml"))
    gone = project.run("doit", *call.split(), check=2)
    assert gone.stderr == "quantmill: recipes/small.toml: there is no such recipe\n"
    project.recipe.write_text("nothing = 1\n")
    broken = project.run("doit", *call.split(), check=2)
    assert broken.stderr.startswith("quantmill: recipes/small.toml: nothing: there is no such key")
    assert (broken.stdout, broken.stderr.count("\n")) == ("", 1)


@pytest.mark.parametrize("call", ["list", "list --all", "clean -a", "clean -na", "forget -a", "info release:other"])
def test_looking_at_all_needs_no_default_recipe(project: Project, call: str) -> None:
    project.recipe.rename(project.recipe.with_name("other.toml"))
    done = project.run("doit", *call.split(), check=1 if call.startswith("info") else 0)  # doit: it is not up to date
    assert "Traceback" not in done.stderr
    bare = Project(project.folder / "bare")
    bare.folder.mkdir()
    (bare.folder / "dodo.py").write_text((project.folder / "dodo.py").read_text())
    if not call.startswith("info"):
        assert bare.run("doit", *call.split()).stderr == ""


@pytest.mark.parametrize("command", ["info", "clean", "forget", "list"])
@pytest.mark.parametrize("word", ["nonsense", "quants", "release"])
def test_a_word_that_is_no_task(project: Project, command: str, word: str) -> None:
    if word == "release":  # a step is all of its tasks
        assert project.run("doit", command, word, check=1 if command == "info" else 0).stderr == ""
        return
    failed = project.run("doit", command, word, check=2)
    likely = " (did you mean quant?)" if word == "quants" else ""
    assert failed.stderr == f"quantmill: there is no task {word}{likely}; 'doit list --all' shows them\n"


def test_a_build_folder_that_cannot_be(project: Project) -> None:
    (project.folder / "build").write_text("a file")
    for command in (("doit",), ("quantmill", "build", "small")):
        failed = project.run(*command, check=1)
        assert failed.stderr.startswith(f"quantmill: {project.folder}/build: File exists; ")
        assert failed.stderr.count("\n") == 1


@pytest.mark.parametrize("damage", [b"no database", b"SQLite format 3\0" + bytes(84) + b"\xff" * 8000])
def test_a_damaged_database_is_begun_anew(project: Project, damage: bytes) -> None:
    project.run("doit")
    (project.folder / "build" / ".doit.db").write_bytes(damage)
    assert project.ran("doit") == []
    assert project.run("doit").stdout == "nothing to do: everything is up to date\n"


def test_the_output_may_be_closed_or_full(project: Project) -> None:
    for command in ("doit", "quantmill build small", "quantmill plan small"):
        for output in (">&-", ">/dev/full"):
            shutil.rmtree(project.folder / "build", ignore_errors=True)
            line = f"{Path(sys.executable).parent}/{command} {output}"
            done = subprocess.run(line, shell=True, cwd=project.folder, capture_output=True, text=True)
            assert "Traceback" not in done.stderr, line
            if "plan" not in command:
                assert (done.returncode, done.stderr) == (0, ""), line


def test_an_explanation_of_a_recipe_elsewhere(project: Project, tmp_path: Path) -> None:
    recipe, elsewhere = project.recipe, tmp_path / "elsewhere"
    elsewhere.mkdir()
    project.folder = elsewhere
    told = project.run("quantmill", "explain", "download:small", str(recipe)).stdout
    assert told == "download:small: run: not built here yet\n"


SLEEP = "time.sleep(60)"
KERNELS = "[k.fma_operations(20_000_000, 1) for _ in range(2000)]"


@pytest.mark.parametrize(
    ("command", "work"),
    [
        ("doit", SLEEP),
        ("doit -n 2", SLEEP),
        ("quantmill build small -n 2", SLEEP),
        ("doit -n 2", KERNELS),
        ("quantmill build small -n 2", KERNELS),
    ],
)
def test_an_interrupt_is_one_sentence(project: Project, command: str, work: str) -> None:
    """Ctrl-C in the middle of a step that takes long, or of one whose kernels soon come back."""
    slow = (
        "import time, quantmill.steps.convert as c, quantmill._kernels as k\n"
        f"object.__setattr__(c.STEP, 'run', lambda *a: {work})"
    )
    (project.folder / "sitecustomize.py").write_text(slow)
    program, *arguments = command.split()
    run = subprocess.Popen(
        [str(Path(sys.executable).parent / program), *arguments],
        cwd=project.folder,
        env={**os.environ, "PYTHONPATH": f"{project.folder}:{os.environ.get('PYTHONPATH', '')}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background job ignores Ctrl-C, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert run.stdout
    assert "convert:small\n" in iter(run.stdout.readline, "")
    run.send_signal(signal.SIGINT)
    try:
        _, stderr = run.communicate(timeout=60)
    finally:
        run.kill()
    assert run.returncode == 1
    assert stderr == "quantmill: interrupted; finished work is kept, run the same command to go on\n"
    (project.folder / "sitecustomize.py").unlink()
    assert "convert:small" in project.ran("doit")


def test_bars_on_a_terminal_leave_it_as_it_was(project: Project) -> None:
    leader, follower = pty.openpty()
    run = subprocess.Popen(
        [str(Path(sys.executable).parent / "doit"), "-n", "2"],
        cwd=project.folder,
        env={**os.environ, "TERM": "xterm"},
        stdout=follower,
        stderr=subprocess.STDOUT,
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            shown += os.read(leader, 1 << 16)
        except OSError:  # the other side is closed
            break
    os.close(leader)
    assert run.wait() == 0
    assert b"Traceback" not in shown
    assert shown.count(b"\x1b[?25l") == shown.count(b"\x1b[?25h") > 0
    assert b"17 run, 0 from the store, 0 failed" in shown
