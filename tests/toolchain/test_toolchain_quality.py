"""Quality and speed measured by a llama.cpp's llama-perplexity and llama-bench: a stand-in's, in real builds."""

import json
from pathlib import Path
from typing import Any

import pytest

from projects import Project
from quantmill.toolchain.perplexity_tool import divergence
from quantmill.toolchain.subprogram import ToolFailed
from standins.llama_cpp import RECIPE, TAG, ready, sources, standin_project, tools
from team import Team

Made = tuple[Path, dict[str, str]]
EVALUATION = '\n[evaluation]\ntext = "other.txt"\nn_ctx = 128\nchunks = 3\nwith = "llama.cpp"\n'
BENCH = '\n[bench]\nwith = "llama.cpp"\ntests = ["pp16", "tg4"]\nftypes = ["Q8_0"]\nrepetitions = 1\nthreads = 1\n'
BY = f"llama.cpp {TAG}, CUDA"


@pytest.fixture(scope="module")
def toolchain(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The folder of a stand-in's toolchain, and the environment that names it."""
    folder = tmp_path_factory.mktemp("toolchain")
    project = Project(folder)
    return folder / "ready", ready(project, folder / "ready", sources(folder / "sources"), tools(folder / "bin"))


def measured_project(folder: Path, more: str = EVALUATION, **config: object) -> Project:
    project = standin_project(folder, RECIPE + more, **config)
    (project.folder / "recipes" / "other.txt").write_text("nothing that the calibration text has in it, ever. " * 200)
    return project


def listing(project: Project) -> Any:
    return json.loads(project.release()["release.json"])


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, toolchain: Made) -> tuple[Project, Team]:
    """A release with all that a llama.cpp measures, sent to a team's store."""
    folder = tmp_path_factory.mktemp("built")
    team = Team(folder, f"file://{folder / 'store'}")
    project = team.join(measured_project(folder / "project", EVALUATION + BENCH), sign=True)
    project.run("quantmill", "build", "small", **toolchain[1])
    return project, team


def test_what_llama_cpp_measures_is_the_release_s(built: tuple[Project, Team], toolchain: Made) -> None:
    project, _ = built
    made, told = project.release(), listing(project)
    record = json.loads((toolchain[0] / "toolchain.json").read_bytes())
    digest = record["programs"]["llama-perplexity"]
    assert told["tools"]["evaluation"] == {"llama_cpp": TAG, "program": digest, "backends": ["CUDA"]}
    assert "bench" not in told["tools"]
    quality = {entry["ftype"]: entry["quality"] for entry in told["files"] if "quality" in entry}
    assert (quality["BF16"]["by"], quality["BF16"]["arithmetic"]) == (BY, "llama.cpp")
    assert (quality["BF16"]["perplexity"], quality["BF16"]["chunks"], quality["BF16"]["tokens"]) == (10.1, 3, 3 * 63)
    lost = {ftype: round(1 / len(made[f"small-{ftype}.gguf"]) ** 0.5, 6) for ftype in ("Q8_0", "IQ3_XXS")}
    for ftype, kld in lost.items():
        found = quality[ftype]
        assert (found["kld"]["mean"], found["kld_error"]) == (kld, 0.0001)
        assert set(found["kld"]) == {"mean", "median", "p90", "p99", "p999", "max"}
        assert (found["top1"], found["top1_error"]) == (0.90079, 0.01887)
        assert (found["delta_p_mean"], found["delta_p_rms"], found["tokens"]) == (-0.0001, 0.007, 3 * 63)
        assert found["bits"] > 3
        assert json.loads(made[f"evaluation/{ftype}.json"]).items() <= found.items()
    report = made["report.html"].decode()
    assert f"Measured by llama-perplexity of {BY}." in report
    assert "without rounding" not in report
    page = made["README.md"].decode()
    assert f"How near the files are to the model was measured by llama-perplexity of {BY}" in page
    assert f"{lost['Q8_0']:.5f}" in page
    bench = json.loads(made["bench.json"])
    assert [(row["test"], row["ts"], row["backend"]) for row in bench["rows"]] == [
        ("pp16", 100.0, "llama.cpp CUDA"),
        ("tg4", 20.0, "llama.cpp CUDA"),
    ]
    assert bench["host"]["versions"]["llama.cpp"] == f"{TAG[1:]} (abc)"
    statement = json.loads(made["provenance.json"])["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert digest in [entry["digest"]["sha256"] for entry in statement if entry["name"] == "llama.cpp/llama-perplexity"]
    project.run("quantmill", "verify", "release/small")


def test_with_nothing_to_do_nothing_is_measured(built: tuple[Project, Team], toolchain: Made) -> None:
    said = built[0].run("quantmill", "build", "small", **toolchain[1]).stdout
    assert said == "nothing to do: everything is up to date\n"


def test_it_is_reproduced_without_a_toolchain(built: tuple[Project, Team], tmp_path: Path) -> None:
    project, _ = built
    beside = str(project.folder / "recipes")
    done = project.run("quantmill", "reproduce", "release/small", "--beside", beside, XDG_CACHE_HOME=str(tmp_path))
    assert f"files are the same, {TAG}-" in done.stdout


def test_another_machine_takes_what_was_measured(built: tuple[Project, Team], tmp_path: Path) -> None:
    project, team = built
    other = team.join(measured_project(tmp_path / "other"))
    lock = json.loads((project.folder / "recipes" / "small.lock").read_bytes())
    del lock["tools"]["bench"]
    (other.folder / "recipes" / "small.lock").write_text(json.dumps(lock, indent=1, ensure_ascii=False) + "\n")
    ran = other.ran("quantmill", "build", "small", "--locked", XDG_CACHE_HOME=str(tmp_path))
    assert not {name.split(":")[0] for name in ran} & {"convert", "imatrix", "quant", "evaluate", "measure", "quality"}
    assert other.release()["report.html"] == project.release()["report.html"]


def test_another_program_measures_anew(toolchain: Made, tmp_path: Path) -> None:
    text = EVALUATION + BENCH
    project = measured_project(tmp_path / "p", text)
    project.edit(', "Q8_0", "IQ3_XXS"', ', "Q8_0"')
    project.run("quantmill", "build", "small", **toolchain[1])
    others = tools(tmp_path / "bin", extra="# of another day\n")
    for name in ("llama-imatrix", "llama-quantize"):
        (others / name).write_bytes((toolchain[0].parent / "bin" / name).read_bytes())
    other = ready(project, tmp_path / "other", toolchain[0].parent / "sources", others)
    ran = project.ran("quantmill", "build", "small", **other)
    assert {name.split(":")[0] for name in ran} >= {"evaluate", "measure", "bench"}
    assert not {name.split(":")[0] for name in ran} & {"convert", "imatrix", "quant"}
    (others / "llama-bench").write_text("#!/bin/sh\n")
    project.edit('"tg4"', '"tg5"')
    done = project.run("quantmill", "build", "small", check=1, **other)
    assert "llama-bench: it is gone or another than was taken in; make the toolchain anew" in done.stderr


def test_gates_hold_for_what_llama_cpp_measured(toolchain: Made, tmp_path: Path) -> None:
    project = measured_project(tmp_path / "p", EVALUATION + "[verify]\nmax_kld = 0.0001\n")
    done = project.run("quantmill", "build", "small", check=1, **toolchain[1])
    assert "its mean KL divergence to the base is 0.00" in done.stderr
    project.edit("max_kld = 0.0001", "min_top1 = 0.95")
    done = project.run("quantmill", "build", "small", check=1, **toolchain[1])
    assert "it agrees with the base on 0.90079 of the most likely tokens" in done.stderr
    project.edit("min_top1 = 0.95", "min_top1 = 0.9\nmax_kld = 0.1")
    ran = project.ran("quantmill", "build", "small", **toolchain[1])
    assert not {name.split(":")[0] for name in ran} & {"evaluate", "measure"}


@pytest.mark.parametrize(
    ("behave", "task", "problem"),
    [
        ("fail", "evaluate:small", "failed with code 1: llama_model_load: error loading model: unknown architecture"),
        ("half", "evaluate:small", "wrote no whole file of predictions in chunks of 128 tokens"),
        ("nan", "evaluate:small", "measured 'nan', which is no number; a weight or a scale may be damaged"),
        ("little", "measure:small/", "measured no top1: "),
        ("twice", "measure:small/", "says of 'Mean KLD' 0.00"),
    ],
)
def test_what_llama_perplexity_does_wrong_is_a_sentence(
    toolchain: Made, tmp_path: Path, behave: str, task: str, problem: str
) -> None:
    project = measured_project(tmp_path / "p", EVALUATION + f'args = ["--behave", "{behave}"]\n')
    project.edit(', "Q8_0", "IQ3_XXS"', ', "Q8_0"')
    done = project.run("quantmill", "build", "small", check=1, **toolchain[1])
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"quantmill: {task}")
    assert f"llama-perplexity of llama.cpp {TAG} {problem}" in line


def test_what_a_tag_does_not_tell_is_absent(toolchain: Made, tmp_path: Path) -> None:
    project = measured_project(tmp_path / "p", EVALUATION + 'args = ["--behave", "old"]\n')
    project.run("quantmill", "build", "small", **toolchain[1])
    quality = {entry["ftype"]: entry["quality"] for entry in listing(project)["files"] if "quality" in entry}
    assert "p90" not in quality["Q8_0"]["kld"]
    assert "delta_p_rms" not in quality["Q8_0"]
    report = project.release()["report.html"].decode()
    assert f"Measured by llama-perplexity of {BY}, which does not tell what is not there." in report
    assert "<td>\N{EN DASH}</td>" in report


def test_what_is_no_measurement_is_refused() -> None:
    said = "Mean PPL(Q) : 10.1 ± 0.2\nMean KLD: -0.000001 ± 0.000001\nSame top p: 99.000 ± 0.100 %\n"
    found = divergence(said, "it")
    assert (found["kld"], found["top1"]) == ({"mean": 0.0}, 0.99)
    for wrong in (said.replace("10.1", "-nan"), said.replace("-0.000001", "inf"), said.replace("99.000", "")):
        with pytest.raises(ToolFailed, match=r"it measured '.*', which is no number"):
            divergence(wrong, "it")
    with pytest.raises(ToolFailed, match="it measured no kld_error"):
        divergence(said.replace(" ± 0.000001", ""), "it")


def test_auto_asks_llama_cpp_for_what_our_engine_does_not_know(toolchain: Made, tmp_path: Path) -> None:
    text = (EVALUATION + BENCH).replace('with = "llama.cpp"', 'with = "auto"')
    project = measured_project(tmp_path / "p", text)
    project.edit('with = "llama.cpp"', 'with = "auto"')
    plan = project.run("quantmill", "plan", "small", **toolchain[1]).stdout.splitlines()
    why = ", for ours does not: config.json: the architecture 'StandInForCausalLM' cannot be converted"
    for step, program in (("evaluation", "llama-perplexity"), ("bench", "llama-bench"), ("imatrix", "llama-imatrix")):
        (line,) = [line for line in plan if line.startswith(f"{step}: {program} of llama.cpp {TAG}")]
        assert why in line
    assert not any(line.startswith("quality and speeds are left out") for line in plan)
    assert any(line.startswith("quality: what llama-perplexity of the tag does not tell (") for line in plan)
    (memory,) = [line for line in plan if line.startswith("memory by step: ")]
    assert all(f"{step} at least " in memory for step in ("convert", "imatrix", "evaluate", "quality"))
    found = json.loads(project.run("quantmill", "plan", "small", "--json", **toolchain[1]).stdout)
    assert set(found["memory_at_least"]) == {"convert", "imatrix", "evaluate", "quality"}
    project.run("quantmill", "build", "small", **toolchain[1])
    assert "CUDA" in json.loads(project.release()["bench.json"])["rows"][0]["backend"]


def test_what_our_engine_knows_it_measures(toolchain: Made, tmp_path: Path) -> None:
    """With `auto`, by the same keys as without a word of it: the lock is the same."""
    from projects import RECIPE as PLAIN
    from projects import new_project

    text = PLAIN.replace("b5490", TAG) + (EVALUATION + BENCH).replace('with = "llama.cpp"\n', "")
    plain = new_project(tmp_path / "plain", text)
    auto = new_project(tmp_path / "auto", text + "")
    auto.edit("[evaluation]", '[evaluation]\nwith = "auto"')
    auto.edit("[bench]", '[bench]\nwith = "auto"')
    for project in (plain, auto):
        (project.folder / "recipes" / "other.txt").write_text("nothing that any other text has in it, ever. " * 200)
        project.run("quantmill", "lock", "small", **toolchain[1])
    plan = auto.run("quantmill", "plan", "small", **toolchain[1]).stdout
    assert "evaluation: our own engine, which computes with this architecture\n" in plan
    assert "bench: our own kernels, which run this architecture\n" in plan
    assert plain.recipe.with_suffix(".lock").read_bytes() == auto.recipe.with_suffix(".lock").read_bytes()


def test_the_toolchain_s_llama_bench_comes_before_that_on_path(toolchain: Made, tmp_path: Path) -> None:
    text = BENCH.replace('with = "llama.cpp"', 'runtime = "llama.cpp"')
    project = measured_project(tmp_path / "p", text)
    project.edit(', "Q8_0", "IQ3_XXS"', ', "Q8_0"')
    project.run("quantmill", "build", "small", **toolchain[1])
    assert "bench" not in json.loads(project.recipe.with_suffix(".lock").read_bytes())["tools"]
    assert json.loads(project.release()["bench.json"])["rows"][0]["ts"] == 100.0
    project.edit('runtime = "llama.cpp"', 'with = "llama.cpp"\nargs = ["-ngl", "99"]')
    project.run("quantmill", "build", "small", **toolchain[1])
    assert json.loads(project.release()["bench.json"])["rows"][0]["ts"] == 1000.0


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        (EVALUATION + 'arithmetic = "f32"\n', "evaluation.arithmetic: llama-perplexity is not told of it; remove it"),
        (EVALUATION + 'memory = "1GB"\n', "evaluation.memory: llama-perplexity is not told of it; remove it"),
        (EVALUATION + 'args = ["-c", "9"]\n', "evaluation.args: -c is given by the recipe's other keys; remove it"),
        (
            EVALUATION.replace('with = "llama.cpp"', 'args = ["-ngl"]'),
            "evaluation.args: they are llama-perplexity's; wr",
        ),
        (EVALUATION.replace('"llama.cpp"', '"vllm"'), "evaluation.with: 'vllm' is not one of own, llama.cpp and auto"),
        (BENCH + 'runtime = "kernels"\n', "bench.runtime: `with` says what runs the files; remove one of the two"),
        (BENCH + 'args = ["-r", "9"]\n', "bench.args: -r is given by the recipe's other keys; remove it here"),
        ('\n[bench]\nargs = ["-ngl"]\n', "bench.args: they are llama-bench's; write with = "),
    ],
)
def test_what_a_recipe_says_wrong(tmp_path: Path, more: str, problem: str) -> None:
    project = measured_project(tmp_path / "p", more)
    said = project.run("quantmill", "plan", "small", check=2).stderr
    assert said.startswith(f"quantmill: recipes/small.toml: {problem}")


def test_tools_without_them_are_told_how_to_have_them(toolchain: Made, tmp_path: Path) -> None:
    bare = tools(tmp_path / "bare")
    for name in ("llama-perplexity", "llama-bench"):
        (bare / name).unlink()
    project = measured_project(tmp_path / "p", EVALUATION)
    named = ready(project, tmp_path / "bare-ready", toolchain[0].parent / "sources", bare)
    make = f"make it usable: quantmill toolchain {TAG} --from DIR|ARCHIVE|URL"
    said = project.run("quantmill", "plan", "small", check=2, **named).stderr
    assert said == (f"quantmill: recipes/small.toml: llama.cpp {TAG} has no llama-perplexity on this machine; {make}\n")
    project = measured_project(tmp_path / "q", BENCH)
    said = project.run("quantmill", "plan", "small", check=2, **named).stderr
    assert f"llama.cpp {TAG} has no llama-bench on this machine; {make}" in said
    project.run("quantmill", "lock", "small", **toolchain[1])
    said = project.run("quantmill", "build", "small", check=1, **named).stderr
    assert f"llama.cpp {TAG} has no llama-bench on this machine; {make}" in said
