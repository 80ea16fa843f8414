"""`quantmill init`: a project for a base that has a plan at once, and what is refused."""

import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import forward_models
import gguf_files
from projects import TINY, Project
from quantmill import gguf
from quantmill.cli import main
from quantmill.quant.quantizer import quantize_file
from quantmill.recipe.recipe import load


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(map(str, arguments)))
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, stood in."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def small(here: Path) -> Path:
    """A GGUF base."""
    return forward_models.write(forward_models.MODELS["qwen2"], here / "small.gguf")


@pytest.mark.parametrize("kind", ["gguf", "path"])
def test_a_project_for_a_local_base_has_a_plan(
    here: Path, small: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("init", "mine", "--base", small if kind == "gguf" else TINY) == 0
    said = capsys.readouterr().out.splitlines()
    small.unlink() if kind == "path" else None
    files = {str(path.relative_to(here)) for path in here.rglob("*") if path.is_file()} - {"small.gguf"}
    names = ("calibration.txt", "evaluation.txt", "mine.toml")
    assert files == {
        *("mine/dodo.py", "mine/quantmill.toml", "mine/.gitignore"),
        *(f"mine/recipes/{name}" for name in names),
    }
    assert set(said[:-1]) == files
    assert said[-1] == "next: quantmill -C mine plan mine"
    project = Project(here / "mine")
    planned = project.run("quantmill", "plan", "mine").stdout
    assert "mine-IQ2_XXS.gguf" in planned
    assert "importance matrix:" in planned
    assert "quant:mine/Q4_K_M" in project.run("doit", "list", "--all").stdout
    recipe = load(here / "mine/recipes/mine.toml")
    assert len(recipe.ftypes) == 26
    assert recipe.base_file
    assert recipe.calibration
    assert recipe.evaluation


def test_a_project_that_exists_gets_the_recipe_alone(here: Path, small: Path) -> None:
    assert call("init", "mine", "--base", small) == 0
    kept = {path: path.read_bytes() for path in (here / "mine").rglob("*") if path.is_file()}
    (here / "mine/recipes/calibration.txt").write_text("a text of the project's own")
    kept[here / "mine/recipes/calibration.txt"] = b"a text of the project's own"
    assert call("-C", "mine/recipes", "init", "other", "--base", "Qwen/Qwen3-8B", "--llama-cpp", "b5490") == 0
    recipe = here / "mine/recipes/other.toml"
    assert {path for path in (here / "mine").rglob("*") if path.is_file()} == {*kept, recipe}
    assert all(path.read_bytes() == data for path, data in kept.items())
    assert (load(recipe).base.repo, load(recipe).llama_cpp) == ("Qwen/Qwen3-8B", "b5490")


def test_a_base_that_cannot_be_run_here_has_no_imatrix(here: Path, small: Path) -> None:
    with gguf.read(small) as file:
        kvs = [
            gguf.kv(entry.key.replace("qwen2.", "phi2."), "phi2" if entry.value == "qwen2" else entry.value)
            for entry in file.metadata.values()
        ]
        with gguf.Writer(here / "phi.gguf", kvs, file.tensor_entries()) as writer:
            for info in file.tensors.values():
                writer.append(file.data(info))
    assert call("init", "phi", "--base", "phi.gguf") == 0
    recipe = load(here / "phi/recipes/phi.toml")
    assert recipe.calibration is None
    assert {"Q8_0", "Q4_K_M", "Q2_K", "IQ3_XXS"} <= set(recipe.ftypes)
    assert "IQ2_XXS" not in recipe.ftypes
    assert "# No importance matrix: " in recipe.path.read_text()
    assert "phi-Q4_K_M.gguf" in Project(here / "phi").run("quantmill", "plan", "phi").stdout


def test_what_stands_in_comments_can_be_said(here: Path, small: Path) -> None:
    assert call("init", "mine", "--base", small) == 0
    path = here / "mine/recipes/mine.toml"
    path.write_text(re.sub(r"^# (\[.*|\w+ = .*)$", r"\1", path.read_text(), flags=re.MULTILINE))
    recipe = load(path)
    assert recipe.repo == "your-name-at-the-Hub/mine-GGUF"
    assert recipe.card.license == "apache-2.0"
    assert [target.name for target in recipe.targets] == ["fit-4.5"]


def test_a_quantized_base_is_said_to_be_one(here: Path, small: Path) -> None:
    quantize_file(small, here / "q8.gguf", "Q8_0")
    assert call("init", "again", "--base", "q8.gguf") == 0
    recipe = load(here / "again/recipes/again.toml")
    assert recipe.base.allow_requantize
    assert recipe.base.type == "Q8_0"
    assert "# It is quantized already (Q8_0)" in recipe.path.read_text()


def test_nothing_is_overwritten_and_wrong_calls_end_in_a_sentence(
    here: Path, small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "full").mkdir()
    (here / "full" / "note").touch()
    (here / "empty").mkdir()
    gguf_files.write(here / "no_model.gguf", gguf_files.described(3))
    for name in ("tuned/checkpoint-500/config.json", "tuned/checkpoint-500/model.safetensors"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).touch()
    for arguments, said in (
        (("full", "--base", small), "full: it exists, and nothing is overwritten"),
        (("small.gguf", "--base", small), "small.gguf: it exists"),
        (("a/b", "--base", small), "'a/b' cannot name a recipe"),
        ((".hidden", "--base", small), "'.hidden' cannot name a recipe"),
        (("x" * 300, "--base", small), "cannot name a recipe"),
        (("new",), "--base is missing"),
        (("new", "--base", "none.gguf"), "none.gguf: there is no such file or folder"),
        (("new", "--base", "a/b/c"), "a/b/c: there is no such file or folder"),
        (("new", "--base", "empty"), "empty: it has no config.json"),
        (("new", "--base", "tuned"), "give a folder below it that has one, such as checkpoint-500"),
        (("new", "--base", "tuned/checkpoint-500/model.safetensors"), "give its folder, tuned/checkpoint-500"),
        (("new", "--base", "no_model.gguf"), "no_model.gguf: "),
        (("new", "--base", small, "--imatrix", small), "--imatrix is for --from"),
        (("new", "--base", small, "--llama-cpp", "b1"), "llama.cpp b1 is not supported"),
        (("new", "--from", "none"), "none: there is no such file or folder"),
        (("new", "--from", "empty"), "empty: there are no GGUF files of a model"),
    ):
        assert call("init", *arguments) == 2, arguments
        shown = capsys.readouterr()
        assert said in shown.err
        assert len(shown.err.splitlines()) == 1
        assert not shown.out
    assert sorted(path.name for path in here.iterdir()) == ["empty", "full", "no_model.gguf", "small.gguf", "tuned"]
    assert call("init", "empty", "--base", small) == 0
    text = (here / "empty/recipes/empty.toml").read_text()
    assert call("-C", "empty", "init", "empty", "--base", small) == 2
    assert re.search("empty.toml: it exists, and nothing is overwritten", capsys.readouterr().err)
    assert (here / "empty/recipes/empty.toml").read_text() == text


INIT = [sys.executable, "-m", "quantmill.cli", "init", "mine", "--base", "small.gguf"]


@pytest.mark.parametrize("project", [False, True])
def test_what_cannot_all_be_written_leaves_nothing(here: Path, small: Path, project: bool) -> None:
    """The texts are longer than a file may be; the same call then does it, once it can."""
    if project:
        (here / "quantmill.toml").touch()
    before = sorted(here.rglob("*"))

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (32 << 10, 32 << 10))

    done = subprocess.run(INIT, cwd=here, capture_output=True, text=True, preexec_fn=limited)
    assert (done.returncode, done.stdout) == (1, "")
    assert "calibration.txt: File too large" in done.stderr
    assert sorted(here.rglob("*")) == before
    subprocess.run(INIT, cwd=here, check=True, capture_output=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("first", [".", "recipes", "recipes/calibration.txt"])
def test_a_project_is_whole_or_not_there(here: Path, small: Path, first: str, number: int) -> None:
    run = subprocess.Popen(INIT, cwd=here, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 120
    while run.poll() is None and not (here / "mine" / first).exists():
        assert time.monotonic() < end
    run.send_signal(number)
    _, said = run.communicate(timeout=120)
    if (here / "mine").exists():  # it was done before
        load(here / "mine" / "recipes" / "mine.toml")
        return
    assert run.returncode == 1
    assert said.endswith("run the same command to go on\n")
    assert sorted(here.rglob("*")) == [small]
