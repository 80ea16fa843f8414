"""[mmproj]: the projectors that a llama.cpp's converter makes, in the release, on its page and in what is chosen."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from projects import RECIPE as PLAIN
from projects import Project, new_project
from quantmill import gguf
from standins.llama_cpp import RECIPE, TAG, ready, sources, standin_project, tools

Made = tuple[Path, dict[str, str]]
MMPROJ = '\n[mmproj]\ntypes = ["F16", "Q8_0"]\n'
NAMES = {"mmproj-small-f16.gguf": "F16", "mmproj-small-Q8_0.gguf": "Q8_0"}


@pytest.fixture(scope="module")
def toolchain(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The folder of a stand-in's toolchain, and the environment that names it."""
    folder = tmp_path_factory.mktemp("toolchain")
    project = Project(folder)
    return folder / "ready", ready(project, folder / "ready", sources(folder / "sources"), tools(folder / "bin"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, toolchain: Made) -> Project:
    """A finished release with projectors."""
    project = standin_project(tmp_path_factory.mktemp("built") / "project", RECIPE + MMPROJ)
    plan = project.run("quantmill", "plan", "small", **toolchain[1]).stdout.splitlines()
    assert [line.split() for line in plan if line.startswith("mmproj-")] == [
        [name, type_, "?"] for name, type_ in NAMES.items()
    ]
    assert any(line.startswith(f"mmproj: convert_hf_to_gguf.py of llama.cpp {TAG} (the sources ") for line in plan)
    project.run("quantmill", "build", "small", **toolchain[1])
    return project


def listed(project: Project) -> dict[str, Any]:
    return {entry["name"]: entry for entry in json.loads(project.release()["release.json"])["files"]}


def test_projectors_are_of_the_release(built: Project, toolchain: Made) -> None:
    made = built.release()
    record = json.loads((toolchain[0] / "toolchain.json").read_bytes())
    facts = {"llama_cpp": TAG, "tree": record["tree"], "versions": record["versions"]}
    assert json.loads(made["release.json"])["tools"]["mmproj"] == facts
    page = made["README.md"].decode()
    for name, type_ in NAMES.items():
        digest = hashlib.sha256(made[name]).hexdigest()
        assert (listed(built)[name]["ftype"], listed(built)[name]["sha256"]) == (None, digest)
        assert f"{digest}  {name}\n" in made["SHA256SUMS"].decode()
        assert f"| [{name}]({name}) | {type_} | " in page
        with gguf.read(built.folder / "release" / "small" / name) as file:
            assert file.metadata["general.type"].value == "mmproj"
            assert file.metadata["general.name"].value == "Stand In"
            assert file.tensors["mm.0.weight"].type.name == type_
    assert page.count("The projector for images or sound") == 2
    assert "mmproj-small-f16.gguf" in made["README.ja.md"].decode()
    built.run("quantmill", "verify", "release/small")
    plan = json.loads(built.run("quantmill", "plan", "small", "--json", **toolchain[1]).stdout)
    sizes = {entry["name"]: (entry["type"], entry["bytes"]) for entry in plan["projectors"]}
    assert sizes == {name: (type_, len(made[name])) for name, type_ in NAMES.items()}


def test_with_nothing_to_do_nothing_is_made_and_all_is_reproduced(
    built: Project, toolchain: Made, tmp_path: Path
) -> None:
    said = built.run("quantmill", "build", "small", **toolchain[1]).stdout
    assert said == "nothing to do: everything is up to date\n"
    beside = str(built.folder / "recipes")
    done = built.run("quantmill", "reproduce", "release/small", "--beside", beside, XDG_CACHE_HOME=str(tmp_path))
    assert f"files are the same, {TAG}-" in done.stdout


def test_one_more_type_makes_that_alone(toolchain: Made, tmp_path: Path) -> None:
    project = standin_project(tmp_path / "p", RECIPE.replace(', "IQ3_XXS"', "") + MMPROJ)
    project.run("quantmill", "build", "small", **toolchain[1])
    project.edit('"F16", "Q8_0"]\n', '"F16", "Q8_0", "BF16"]\n')
    ran = project.ran("quantmill", "build", "small", **toolchain[1])
    assert {*ran} == {"mmproj:small/BF16", "card:small", "release:small"}
    project.edit(MMPROJ.replace('"Q8_0"', '"Q8_0", "BF16"'), "")
    project.run("quantmill", "build", "small", **toolchain[1])
    assert not [name for name in project.release() if "mmproj" in name]


def test_a_model_that_we_convert_has_llama_cpp_s_projector(toolchain: Made, tmp_path: Path) -> None:
    """The text model's files are those of a recipe that does not speak of projectors."""
    text = PLAIN.replace("b5490", TAG)
    projects = [new_project(tmp_path / name, text + more) for name, more in (("plain", ""), ("with", MMPROJ))]
    for project in projects:
        project.run("quantmill", "build", "small", **toolchain[1])
    plain, other = (project.release() for project in projects)
    assert {n for n in other if n not in plain} == NAMES.keys()
    assert all(plain[name] == other[name] for name in plain if name.endswith(".gguf"))
    tools_of = json.loads(other["release.json"])["tools"]
    assert tools_of.keys() == {"mmproj"}


@pytest.mark.parametrize(
    ("behave", "problem"),
    [
        ("blind", "failed with code 1: NotImplementedError: vision_config / audio_config not found in hparams"),
        ("no-projector", "wrote what is no projector: it is a model"),
    ],
)
def test_what_goes_wrong_is_a_sentence(toolchain: Made, tmp_path: Path, behave: str, problem: str) -> None:
    project = standin_project(tmp_path / "p", RECIPE + MMPROJ.replace('"F16", ', ""), behave=behave)
    (line,) = project.run("quantmill", "build", "small", check=1, **toolchain[1]).stderr.splitlines()
    assert line == f"quantmill: mmproj:small/Q8_0: convert_hf_to_gguf.py of llama.cpp {TAG} {problem}"


def test_choose_counts_the_projector(built: Project, toolchain: Made) -> None:
    machine = ("--vram", "24GB", "--ram", "64GB", "--backend", "cuda")
    for place in ("release/small", "small"):
        found = json.loads(
            built.run("quantmill", "choose", place, *machine, "--json", "--mmproj", **toolchain[1]).stdout
        )
        assert found["projector"] == {
            "file": "mmproj-small-Q8_0.gguf",
            "bytes": len(built.release()["mmproj-small-Q8_0.gguf"]),
        }
        assert not found["choice"]["file"].startswith("mmproj")
    said = built.run("quantmill", "choose", "release/small", *machine, "--mmproj", "f16").stdout
    assert "beside it: mmproj-small-f16.gguf  " in said
    assert "beside it" not in built.run("quantmill", "choose", "release/small", *machine).stdout
    said = built.run("quantmill", "choose", "release/small", *machine, "--mmproj", "BF16", check=2).stderr
    assert "release/small: it has mmproj-small-Q8_0.gguf, mmproj-small-f16.gguf; leave out --mmproj" in said


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ('\n[mmproj]\ntypes = ["Q4_K_M"]\n', "mmproj.types: 'Q4_K_M' is not one of F32, F16, BF16, Q8_0"),
        ('\n[mmproj]\ntypes = ["F16", "f16"]\n', "mmproj.types: F16 is listed twice; once is enough"),
        ("\n[mmproj]\n", "mmproj.types: this key is missing; give a list of F32, F16, BF16, Q8_0"),
    ],
)
def test_what_a_recipe_says_wrong(tmp_path: Path, more: str, problem: str) -> None:
    project = standin_project(tmp_path / "p", RECIPE + more)
    said = project.run("quantmill", "plan", "small", check=2).stderr
    assert said == f"quantmill: recipes/small.toml: {problem}\n"


def test_a_gguf_base_has_none_and_a_toolchain_is_needed(tmp_path: Path) -> None:
    text = PLAIN.replace("b5490", TAG) + MMPROJ
    project = new_project(tmp_path / "p", text)
    said = project.run("quantmill", "plan", "small", check=2, XDG_CACHE_HOME=str(tmp_path)).stderr
    assert f"there is no llama.cpp {TAG} on this machine; make it usable: quantmill toolchain {TAG} --from" in said
    project.edit('path = "tiny"', 'gguf = "x.gguf"')
    said = project.run("quantmill", "plan", "small", check=2).stderr
    assert "mmproj: a GGUF base has no projector in it; give the model it was made of, or remove this" in said
