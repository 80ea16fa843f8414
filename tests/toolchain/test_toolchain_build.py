"""Steps that a llama.cpp runs: a stand-in's converter and llama-imatrix in real builds, and what of them goes wrong."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from projects import CALIBRATED, Project
from projects import RECIPE as PLAIN
from quantmill import gguf
from quantmill.imatrix import gguf_form
from quantmill.toolchain import child
from quantmill.toolchain.convert_script import convert
from quantmill.toolchain.importance_tool import ImatrixOptions, measure
from quantmill.toolchain.installed import read
from standins.llama_cpp import RECIPE, TAG, alive, checkpoint, ready, sources, standin_project, tools
from team import Team

Made = tuple[Path, dict[str, str]]
ALL = ["BF16", "Q8_0", "IQ3_XXS"]
REPRODUCE = ("quantmill", "reproduce")


@pytest.fixture(scope="module")
def toolchain(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The folder of a stand-in's toolchain, and the environment that names it."""
    folder = tmp_path_factory.mktemp("toolchain")
    project = Project(folder)
    return folder / "ready", ready(project, folder / "ready", sources(folder / "sources"), tools(folder / "bin"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, toolchain: Made) -> tuple[Project, Team]:
    """A finished release of a model that only the stand-in knows, sent to a team's store."""
    folder = tmp_path_factory.mktemp("built")
    team = Team(folder, f"file://{folder / 'store'}")
    project = team.join(standin_project(folder / "project"), sign=True)
    project.run("quantmill", "build", "small", **toolchain[1])
    return project, team


def listing(project: Project) -> Any:
    return json.loads((project.folder / "release" / "small" / "release.json").read_bytes())


def test_a_model_that_only_llama_cpp_knows_becomes_a_release(built: tuple[Project, Team], toolchain: Made) -> None:
    project, _ = built
    made = project.release()
    record = json.loads((toolchain[0] / "toolchain.json").read_bytes())
    facts = {"llama_cpp": TAG, "tree": record["tree"], "versions": record["versions"]}
    program = {"llama_cpp": TAG, "program": record["program"], "backends": ["CUDA"]}
    assert listing(project)["tools"] == {"convert": facts, "imatrix": program}
    assert {f"small-{name}.gguf" for name in ("bf16", "Q8_0", "IQ3_XXS", "imatrix")} < made.keys()
    page = made["README.md"].decode()
    assert f"converted by the converter of llama.cpp {TAG}, and not by quantmill" in page
    assert f"measured by llama-imatrix of llama.cpp {TAG}, CUDA; it lies here" in page
    statement = json.loads(made["provenance.json"])["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert {"name": "llama.cpp/tree", "digest": {"sha256": record["tree"]}}.items() <= next(
        entry for entry in statement if entry["name"] == "llama.cpp/tree"
    ).items()
    report = json.loads(made["imatrix.json"])
    assert (report["perplexity"], report["perplexity_error"], report["chunks"]) == (10.1, 0.25, 4)
    with gguf.read(project.folder / "release" / "small" / "small-Q8_0.gguf") as file:
        assert file.metadata["general.name"].value == "Stand In"
        assert file.metadata["general.architecture"].value == "chatglm"
        assert file.tensors["blk.0.attn_qkv.weight"].type.name == "Q8_0"


def test_with_nothing_to_do_nothing_runs(built: tuple[Project, Team], toolchain: Made, tmp_path: Path) -> None:
    """Also where the toolchain is gone: the lock says which it was."""
    project, _ = built
    said = project.run("quantmill", "build", "small", **toolchain[1]).stdout
    assert said == "nothing to do: everything is up to date\n"
    said = project.run("quantmill", "build", "small", "--locked", XDG_CACHE_HOME=str(tmp_path)).stdout
    assert said == "nothing to do: everything is up to date\n"


def test_the_plan_says_which_program_each_step_uses_and_why(toolchain: Made, tmp_path: Path) -> None:
    project = standin_project(tmp_path / "p", RECIPE.replace('"llama.cpp"', '"auto"'))
    lines = project.run("quantmill", "plan", "small", **toolchain[1]).stdout.splitlines()
    unknown = "the architecture 'StandInForCausalLM' cannot be converted"
    assert any(line.startswith("small-Q8_0.gguf") and line.endswith("?") for line in lines)
    converts = [line for line in lines if line.startswith(f"convert: convert_hf_to_gguf.py of llama.cpp {TAG} (the so")]
    measures = [line for line in lines if line.startswith(f"imatrix: llama-imatrix of llama.cpp {TAG} (the program ")]
    assert all(f"for ours does not: config.json: {unknown}" in line for line in (*converts, *measures))
    assert len(converts) == len(measures) == 1
    assert any(line.startswith("quality and speeds are left out: ") for line in lines)
    assert any(line.startswith("note: only llama.cpp's converter knows the base's tensors") for line in lines)
    assert json.loads(project.run("quantmill", "plan", "small", "--json", **toolchain[1]).stdout)["exact"] is False
    project.run("quantmill", "build", "small", "--only", "Q8_0", **toolchain[1])
    plan = json.loads(project.run("quantmill", "plan", "small", "--json", **toolchain[1]).stdout)
    sizes = {row["ftype"]: row["bytes"] for row in plan["files"]}
    assert plan["exact"]
    project.run("quantmill", "build", "small", **toolchain[1])
    made = {entry["ftype"]: entry["size"] for entry in listing(project)["files"] if entry["ftype"]}
    assert sizes == made
    project.edit('with = "auto"', 'with = "llama.cpp"')
    assert ", for the recipe asks for it" in project.run("quantmill", "plan", "small", **toolchain[1]).stdout


def test_another_machine_takes_it_from_the_shared_store(built: tuple[Project, Team], tmp_path: Path) -> None:
    """It has no llama.cpp at all; the lock comes with the recipe."""
    project, team = built
    other = team.join(standin_project(tmp_path / "other"))
    (other.folder / "recipes" / "small.lock").write_bytes((project.folder / "recipes" / "small.lock").read_bytes())
    ran = other.ran("quantmill", "build", "small", XDG_CACHE_HOME=str(tmp_path))
    assert [name for name in ran if name.split(":")[0] in ("convert", "imatrix", "quant")] == []
    assert other.release() == project.release()


def test_a_release_is_reproduced_from_what_llama_cpp_made(built: tuple[Project, Team], tmp_path: Path) -> None:
    project, _ = built
    beside = str(project.folder / "recipes")
    done = project.run(*REPRODUCE, "release/small", "--beside", beside, XDG_CACHE_HOME=str(tmp_path))
    assert f"files are the same, {TAG}-" in done.stdout
    assert "convert:small\n" in done.stdout  # taken, and not by the converter, which is not here


def test_other_sources_convert_anew(toolchain: Made, tmp_path: Path) -> None:
    project = standin_project(tmp_path / "p", RECIPE.replace(', "Q8_0", "IQ3_XXS"', ""))
    project.run("quantmill", "build", "small", **toolchain[1])
    other = ready(project, tmp_path / "other", sources(tmp_path / "s", " of another day"), tools(tmp_path / "bin"))
    plan = project.run("quantmill", "plan", "small", **other).stdout
    assert "convert:small: toolchain.tree " in plan
    ran = project.run("quantmill", "build", "small", "--locked", **other)  # the lock holds: nothing is to be done
    assert ran.stdout == "nothing to do: everything is up to date\n"
    assert "convert:small" in project.ran("quantmill", "build", "small", **other)
    assert (
        listing(project)["tools"]["convert"]["tree"]
        != json.loads((toolchain[0] / "toolchain.json").read_bytes())["tree"]
    )
    edited = next((tmp_path / "other" / "tree").glob("gguf-py/*"))
    edited.chmod(0o644)
    edited.write_text("touched by hand")
    project.edit('name = "Stand In"', 'name = "Another"')
    done = project.run("quantmill", "build", "small", check=2, **other)
    assert "its files are not those that were taken in; make it anew: quantmill toolchain" in done.stderr
    ready(project, tmp_path / "other", tmp_path / "s", tmp_path / "bin")
    assert "convert:small" in project.ran("quantmill", "build", "small", **other)


@pytest.mark.parametrize(
    ("behave", "problem"),
    [
        ("fail", "failed with code 1: NotImplementedError: Architecture 'StandInForCausalLM' is not supported"),
        ("garbage", "wrote what is no whole model: model.gguf: "),
        ("half", "wrote what is no whole model: model.gguf: "),
        ("nothing", "wrote no file: it said nothing"),
        ("noise", "failed with code 3: "),
        ("bare", "failed with code 1: AssertionError: assert config['layers'] == 0"),
        ("lacks", "failed with code 1: FileNotFoundError: [Errno 2] No such file or directory: 'model/Stand In/none'"),
        ("type", "wrote F16, and BF16 was asked for; set `[base] type`"),
    ],
)
def test_what_a_converter_does_wrong_is_a_sentence(toolchain: Made, tmp_path: Path, behave: str, problem: str) -> None:
    project = standin_project(tmp_path / "p", behave=behave)
    done = project.run("quantmill", "build", "small", check=1, **toolchain[1])
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"quantmill: convert:small: convert_hf_to_gguf.py of llama.cpp {TAG} {problem}")
    checkpoint(project.folder / "recipes" / "standin")
    project.run("quantmill", "build", "small", "--only", "Q8_0", **toolchain[1])


@pytest.mark.parametrize(
    ("behave", "problem"),
    [
        ("fail", "failed with code 1: llama_model_load: error loading model: unknown architecture / main : "),
        ("garbage", "wrote no matrix: imatrix.gguf: "),
        ("half", "wrote no matrix: imatrix.gguf: "),
        ("nothing", "wrote no file: it said nothing"),
    ],
)
def test_what_llama_imatrix_does_wrong_is_a_sentence(
    toolchain: Made, tmp_path: Path, behave: str, problem: str
) -> None:
    project = standin_project(tmp_path / "p")
    project.edit("[quants]", f'args = ["--behave", "{behave}"]\n\n[quants]')
    done = project.run("quantmill", "build", "small", check=1, **toolchain[1])
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"quantmill: imatrix:small: llama-imatrix of llama.cpp {TAG} {problem}")
    project.edit(f', "{behave}"]', ', "well"]')
    assert "convert:small" not in project.ran("quantmill", "build", "small", "--only", "IQ3_XXS", **toolchain[1])


def wait(asked: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not asked():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize("step", ["convert", "imatrix"])
def test_killed_in_the_middle_it_ends_with_the_build(toolchain: Made, tmp_path: Path, step: str) -> None:
    mark = tmp_path / "mark"
    project = standin_project(tmp_path / "p", **({"behave": "slow", "mark": str(mark)} if step == "convert" else {}))
    if step == "imatrix":
        project.edit("[quants]", f'args = ["--behave", "slow", "--mark", "{mark}"]\n[quants]')
    program = str(Path(sys.executable).parent / "quantmill")
    build = subprocess.Popen(
        [program, "build", "small"], cwd=project.folder, env=os.environ | toolchain[1], stdout=subprocess.DEVNULL
    )
    try:
        wait(lambda: mark.exists() and mark.read_text() != "")
    finally:
        build.send_signal(signal.SIGKILL)
        build.wait()
    number = int(mark.read_text())
    wait(lambda: not alive(number))
    project.run("quantmill", "build", "small", **toolchain[1])  # it does not sleep again
    assert list((project.folder / "cache" / "work").iterdir()) == []


def test_the_converter_has_no_network(toolchain: Made, tmp_path: Path) -> None:
    apart = "import socket; socket.create_connection(('127.0.0.1', PORT), timeout=5)"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        call = [sys.executable, str(child.__file__), str(os.getpid()), "apart", sys.executable, "-c"]
        if subprocess.run([*call, apart.replace("PORT", str(port))], capture_output=True, check=False).returncode == 0:
            pytest.skip("this system gives no process a network of its own")
        project = standin_project(tmp_path / "p", behave="network", port=port)
        done = project.run("quantmill", "build", "small", check=1, **toolchain[1])
    assert f"convert_hf_to_gguf.py of llama.cpp {TAG} failed with code 1: " in done.stderr


def test_a_matrix_of_llama_imatrix_guides_as_our_own(toolchain: Made, tmp_path: Path) -> None:
    """Of a model that our engine knows: the stand-in's matrix is our own, and so are the files."""
    ours, theirs = [standin_project(tmp_path / name, RECIPE, gguf="llama") for name in ("ours", "theirs")]
    ours.edit('[imatrix]\nwith = "llama.cpp"', '[imatrix]\nwith = "own"')
    for project in (ours, theirs):
        project.run("quantmill", "build", "small", **toolchain[1])
    first, second = (gguf_form.load(p.folder / "release" / "small" / "small-imatrix.gguf") for p in (ours, theirs))
    assert first.tensors.keys() == second.tensors.keys()
    assert all((first.tensors[name][0] == second.tensors[name][0]).all() for name in first.tensors)
    assert ours.release()["small-IQ3_XXS.gguf"] == theirs.release()["small-IQ3_XXS.gguf"]
    assert "imatrix.json" in theirs.release()
    assert "imatrix.json" not in ours.release()


def test_what_our_engine_does_not_know_is_not_measured(toolchain: Made, tmp_path: Path) -> None:
    project = standin_project(tmp_path / "p", RECIPE + '\n[evaluation]\ntext = "other.txt"\nn_ctx = 128\n')
    (project.folder / "recipes" / "other.txt").write_text("nothing that the calibration text has in it, ever. " * 200)
    planned = project.run("quantmill", "plan", "small", **toolchain[1]).stdout
    assert "note: whether our own engine computes what [evaluation] asks for is known once the base is conv" in planned
    done = project.run("quantmill", "build", "small", check=2, **toolchain[1])
    assert "and [evaluation] would; leave out [evaluation] and its gates" in done.stderr


def test_what_our_own_code_knows_it_makes(toolchain: Made, make_project: Callable[..., Project]) -> None:
    """With `auto` a known architecture is converted and measured here, by the same keys as without a word of it."""
    text = CALIBRATED.replace("b5490", TAG)
    plain = make_project("plain", text)
    auto = make_project("auto", text + '[convert]\nwith = "auto"\n[imatrix]\nwith = "auto"\n')
    for project in (plain, auto):
        (project.folder / "recipes" / "text.txt").write_text("a quick brown fox and so on, once more. " * 200)
    plans = [p.run("quantmill", "plan", "small", **toolchain[1]).stdout for p in (plain, auto)]
    assert "convert: our own converter, which knows qwen2\n" in plans[1]
    assert "imatrix: our own engine, which computes with this architecture\n" in plans[1]
    assert "convert: " not in plans[0]
    for project in (plain, auto):
        project.run("quantmill", "lock", "small")
    locks = [json.loads((p.folder / "recipes" / "small.lock").read_bytes()) for p in (plain, auto)]
    assert locks[0] == locks[1]
    assert "tools" not in locks[0]


def test_without_a_toolchain_it_is_said_how_to_have_one(tmp_path: Path) -> None:
    project = standin_project(tmp_path / "p")
    project.edit('[convert]\nwith = "llama.cpp"\n', "")
    refused = project.run("quantmill", "plan", "small", check=2).stderr
    assert "the architecture 'StandInForCausalLM' cannot be converted; " in refused
    assert refused.endswith('; those that llama.cpp knows can by its own converter: [convert] with = "llama.cpp"\n')
    project.edit("[calibration]", '[convert]\nwith = "llama.cpp"\n[calibration]')
    done = project.run("quantmill", "build", "small", check=2, XDG_CACHE_HOME=str(tmp_path))
    assert done.stderr == (
        f"quantmill: recipes/small.toml: there is no llama.cpp {TAG} on this machine; make "
        f"it usable: quantmill toolchain {TAG} --from DIR|ARCHIVE|URL\n"
    )
    named = project.run("quantmill", "build", "small", check=2, QUANTMILL_LLAMA_CPP=str(tmp_path / "none"))
    assert "QUANTMILL_LLAMA_CPP names this folder, and there is no toolchain.json in it" in named.stderr


def test_progress_is_passed_on(toolchain: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTMILL_LLAMA_CPP", str(toolchain[0]))
    ready = read(toolchain[0])
    model = checkpoint(tmp_path / "model")
    files = {path.name: path for path in model.iterdir()}
    size = sum(path.stat().st_size for path in files.values())
    told: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        told.append((done, total))

    (tmp_path / "work").mkdir()
    convert(ready.facts("convert") or {}, files, tmp_path / "m.gguf", "F16", "a/Small", tmp_path / "work", progress)
    assert {(size // 2, size), (size, size)} <= set(told)
    told.clear()
    (tmp_path / "text").write_text("a quick brown fox and so on, once more. " * 200)
    asked = ImatrixOptions(tmp_path / "m.gguf", tmp_path / "text", "https://example.org/texts/a.txt", 128)
    measure(ready.facts("imatrix") or {}, asked, tmp_path / "i.gguf", tmp_path / "work", 1, progress)
    assert told[-1] == (4, 4)
    assert gguf_form.load(tmp_path / "i.gguf").datasets == (b"a.txt",)


def test_a_known_architecture_is_planned_before_it_is_converted(
    toolchain: Made, make_project: Callable[..., Project]
) -> None:
    """As near as our own converter's metadata are to llama.cpp's."""
    text = PLAIN.replace("b5490", TAG)
    plans = []
    for name, more in (("plain", ""), ("theirs", '[convert]\nwith = "llama.cpp"\n')):
        project = make_project(name, text + more)
        plans.append(json.loads(project.run("quantmill", "plan", "small", "--json", **toolchain[1]).stdout))
    own, theirs = ({row["ftype"]: row["bytes"] for row in plan["files"]} for plan in plans)
    assert own.keys() == theirs.keys()
    assert all(abs(own[ftype] - theirs[ftype]) < 100_000 for ftype in own)
    assert (plans[0]["exact"], plans[1]["exact"]) == (True, False)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('[convert]\nwith = "llama.cpp"', '[convert]\nwith = "theirs"', "convert.with: 'theirs' is not one of own, ll"),
        ('path = "standin"', 'gguf = "x.gguf"', "convert: a GGUF base is not converted; remove it"),
        ('path = "standin"', 'path = "standin"\npre_tokenizer = "qwen2"', "base.pre_tokenizer: llama.cpp's own conv"),
        ("[quants]", 'args = ["-m", "x"]\n[quants]', "imatrix.args: -m is given by the recipe's other keys; remove"),
        ("[quants]", 'args = ["--chunks=3"]\n[quants]', "imatrix.args: --chunks=3 is given by the recipe's other "),
        ("[quants]", 'memory = "1GB"\n[quants]', "imatrix.memory: llama-imatrix is not told of it; remove it, or g"),
        ("[quants]", 'form = "dat"\n[quants]', "imatrix.form: llama-imatrix writes the form of its tag; remove it"),
        ('[imatrix]\nwith = "llama.cpp"', '[imatrix]\nargs = ["-ngl", "9"]', "imatrix.args: they are llama-imatrix's"),
        ('text = "text.txt"', 'text = "text.txt"\nweight = 1', "calibration.weight: there is no such key"),
    ],
)
def test_what_a_recipe_says_wrong_of_it_is_a_sentence(tmp_path: Path, old: str, new: str, problem: str) -> None:
    project = standin_project(tmp_path / "p")
    project.edit(old, new)
    done = project.run("quantmill", "plan", "small", check=2)
    assert done.stderr.startswith(f"quantmill: recipes/small.toml: {problem}")


def test_llama_imatrix_takes_one_text(toolchain: Made, tmp_path: Path) -> None:
    several = '[[calibration.texts]]\ntext = "text.txt"\n[[calibration.texts]]\ntext = "text.txt"\nname = "other"\n'
    project = standin_project(tmp_path / "p")
    project.edit('text = "text.txt"\nn_ctx = 128\n', f"n_ctx = 128\n{several}")
    done = project.run("quantmill", "plan", "small", check=2, **toolchain[1])
    assert "calibration.texts: llama-imatrix measures one text without a weight; give one by `text`" in done.stderr
