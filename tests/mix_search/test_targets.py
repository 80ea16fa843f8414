"""[[quants.target]]: files of a recipe whose types are found by measuring."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from projects import TINY, Project, new_project
from quantmill import gguf
from quantmill.build.graph import graph
from quantmill.build.opening import open_workspace
from quantmill.choose.machine import machine
from quantmill.choose.placement import best_placement, room_on_card
from quantmill.choose.shape import of_file, of_tensors
from quantmill.forecast.plan import plan_of
from quantmill.mix_search.search import Measured, Sought, find_mix
from quantmill.mix_search.space import Target
from quantmill.recipe import lock as locks
from quantmill.recipe.recipe import load

BITS = (2.5, 3, 3.5, 4, 4.5, 5, 6)
NAMES = [f"fit-{bits:g}" for bits in BITS]
BASE = """
llama_cpp = "b11739"
prefix = "small"

[base]
path = "tiny"
name = "Small"

[imatrix]
file = "tiny/imatrix.dat"
sha256 = "{}"

[search]
text = "tiny/calibration.txt"
n_ctx = 128
chunks = 3

[evaluation]
text = "tiny/evaluation.txt"
n_ctx = 128
chunks = 4

[quants]
matrix = ["BF16", "Q4_K_M", "Q2_K"]
"""
TARGETS = "".join(
    f'\n[[quants.target]]\nname = "{name}"\nbits = {bits}\n' for name, bits in zip(NAMES, BITS, strict=True)
)


def searched(folder: Path, text: str = TARGETS) -> Project:
    digest = hashlib.sha256((TINY / "imatrix.dat").read_bytes()).hexdigest()
    project = new_project(folder, BASE.format(digest) + text)
    for name in ("calibration.txt", "evaluation.txt", "imatrix.dat"):
        shutil.copy(TINY / name, folder / "recipes" / "tiny" / name)
    return project


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Seven targets between 2.5 and 6 bits of one recipe."""
    project = searched(tmp_path_factory.mktemp("place") / "project")
    project.run("quantmill", "build", "small")
    return project


def files(project: Project) -> dict[str, Path]:
    return {name: project.folder / "release" / "small" / f"small-{name}.gguf" for name in NAMES}


def test_no_file_is_larger_than_its_target_and_none_much_smaller(built: Project) -> None:
    for bits, path in zip(BITS, files(built).values(), strict=True):
        with gguf.read(path) as file:
            size = 8 * sum(tensor.nbytes for tensor in file.tensors.values())
            weights = sum(tensor.n_elements for tensor in file.tensors.values())
            assert bits * 0.995 <= size / weights <= bits
            assert file.metadata["quantmill.mix"].value == "KL divergence of Q3_K alone, 3 chunks of 128 tokens"


def test_the_release_says_what_was_searched_and_measured(built: Project) -> None:
    listed = {entry["name"]: entry for entry in json.loads(built.release()["release.json"])["files"]}
    entry = listed["small-fit-4.5.gguf"]
    assert entry["ftype"] == "fit-4.5"
    assert entry["quality"]["kld"]["mean"] > 0
    assert entry["mix"]["target"] == {"bits": 4.5}
    assert entry["mix"]["predicted_kld"] == pytest.approx(entry["quality"]["kld"]["mean"], rel=0.5)
    page = built.release()["README.md"].decode()
    assert "`fit-6` each tensor has the type that a search chose" in page
    assert "measured on calibration.txt. What these files lose was measured on evaluation.txt, which the search" in page
    (row,) = [line for line in page.splitlines() if line.startswith("| [small-fit-4.5.gguf]")]
    assert "Its types were found by measuring." in row
    assert all("searched" in entry["mix"] for name, entry in listed.items() if "-fit-" in name)
    assert b"Searched types" in built.release()["report.html"]


def test_a_release_with_targets_is_reproduced(built: Project) -> None:
    """All that was searched comes out the same in a store of its own."""
    built.run("quantmill", "reproduce", "release/small", "--work", str(built.folder / "again"))


@pytest.mark.parametrize("place", ["release/small", "small"])
def test_a_target_is_chosen_as_any_file(built: Project, place: str) -> None:
    """By what was measured, where quality is wanted; each of them is known by its listing."""
    machine = ("--backend", "cpu-avx2", "--context", "64", "--ram", "16.2MB", "--json")
    found = json.loads(built.run("quantmill", "choose", place, "--goal", "quality", *machine).stdout)
    assert found["choice"]["ftype"] == "fit-4.5"
    assert found["next"]["ftype"] == "fit-4"


def test_a_file_for_a_card_lies_on_it_as_a_whole(built: Project) -> None:
    """By the rules of choose, and with little room left."""
    recipe = load(built.recipe)
    space, lock = open_workspace(built.folder), locks.load(recipe)
    assert lock is not None
    nodes = graph(recipe, lock)
    made = {name: space.outputs(nodes[f"{name}:small"]) or {} for name in ("convert", "sensitivity")}
    measured = Measured.of(json.loads(made["sensitivity"]["sensitivity.json"].path.read_bytes()))
    base = made["convert"]["model.gguf"].path
    with gguf.read(base) as file:
        shape = of_file(file.metadata.values(), file.tensor_entries())
    assert shape is not None
    sought = Sought(base, built.folder / "recipes" / "tiny" / "imatrix.dat", "i.dat", recipe.reference)
    for wanted in (1_300_000, 1_900_000, 2_600_000):
        vram = 10**9 + wanted + shape.layers * shape.cache_bytes(64) + shape.buffer_bytes(64, False)
        room = room_on_card(shape, vram, 64)
        assert room == wanted
        weights = of_tensors(find_mix(sought, measured, Target(on_card=room)).planned.tensors, shape.layers)
        placed = best_placement(weights, shape, machine("cuda", (vram,), 64 * 10**9), 64, False)
        assert placed is not None
        assert placed.full
        assert 0.99 * wanted < sum(weights.layers) + weights.output <= wanted


def test_a_target_that_is_no_better_than_a_stock_file_is_told_and_fails_a_strict_recipe(tmp_path: Path) -> None:
    poor = '\n[[quants.target]]\nname = "poor"\nlike = "Q4_K_M"\ntypes = ["Q4_0"]\n'
    project = searched(tmp_path / "project", poor)
    project.edit('["BF16", "Q4_K_M", "Q2_K"]', '["Q4_K_M"]')
    text = "poor: on the evaluation text it is no better than Q4_K_M, which is no larger"
    assert f"note: {text} (" in project.run("quantmill", "build", "small").stdout
    assert "No better than `Q4_K_M`, which is no larger." in project.release()["README.md"].decode()
    project.edit('prefix = "small"', 'prefix = "small"\nstrict = true')
    failed = project.run("quantmill", "build", "small", check=1)
    assert f"report:small: {text} (" in failed.stderr + failed.stdout
    assert "or take `strict` out of the recipe" in failed.stderr + failed.stdout


def test_a_target_that_is_too_small_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    project = searched(tmp_path / "project", TARGETS.replace("bits = 2.5", "bits = 1.5"))
    for command in ("plan", "build"):
        failed = project.run("quantmill", command, "small", check=2)
        said = failed.stderr + failed.stdout
        assert "fit-2.5: a file of " in said
        assert "is smaller than the types allow, which is 1" in said
    assert "sensitivity:small: fit-2.5: " in said
    assert not [*(project.folder / "cache").rglob("probes.gguf")]


def test_types_set_by_hand_are_not_searched(tmp_path: Path) -> None:
    by_hand = """
[[quants.target]]
name = "mine"
size = "2.4MB"
backends = ["vulkan"]

[[quants.override]]
ftypes = ["MINE"]
token_embedding = "Q8_0"
tensors = { "ffn_down" = "Q6_K" }
"""
    project = searched(tmp_path / "project", by_hand)
    project.run("quantmill", "build", "small", "--only", "mine")
    (made,) = [path for path in (project.folder / "cache").rglob("*") if is_mix(path)]
    with gguf.read(made) as file:
        types = {name: tensor.type.name for name, tensor in file.tensors.items()}
    assert made.stat().st_size <= 2_400_000
    assert types["token_embd.weight"] == "Q8_0"
    assert {type_ for name, type_ in types.items() if "ffn_down" in name} == {"Q6_K"}
    assert not any(type_.startswith("IQ") for type_ in types.values())


def is_mix(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 1_000_000 and b"quantmill.mix" in path.read_bytes()[:1_000_000]


def test_an_audit_knows_the_file(built: Project) -> None:
    tree = built.folder / "release" / "small"
    said = built.run("quantmill", "audit", str(files(built)["fit-3"]), "--base", str(tree / "small-bf16.gguf")).stdout
    assert "small-fit-3.gguf: same\n" in said
    assert "types that a search chose, by the file's own word" in said
    assert "were searched: 'KL divergence of Q3_K alone, 3 chunks of 128 tokens'" in said
    said = built.run("quantmill", "show", str(files(built)["fit-3"])).stdout
    assert "its tensors' types were searched, by its own word" in said


def test_a_size_that_changes_makes_one_mix_and_one_file_anew(built: Project) -> None:
    before = {name: path.read_bytes() for name, path in files(built).items()}
    built.edit("bits = 4.5", "bits = 4.4")
    ran = built.ran("quantmill", "build", "small")
    of = sorted(f"{step}:small/fit-4.5" for step in ("mix", "quant", "split", "quality", "verify"))
    assert [name for name in ran if not name.startswith("  note")] == sorted(
        [*of, "report:small", "card:small", "release:small"]
    )
    after = {name: path.read_bytes() for name, path in files(built).items()}
    assert [name for name in NAMES if before[name] != after[name]] == ["fit-4.5"]
    built.edit("bits = 4.4", "bits = 4.5")
    assert [name for name in built.ran("quantmill", "build", "small") if not name.startswith("  note")] == []
    assert {name: path.read_bytes() for name, path in files(built).items()} == before


def test_a_plan_bounds_a_size_before_its_mix_is_known_and_then_says_it(
    built: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rest = """
[[quants.target]]
name = "like"
like = "Q4_K_M"

[[quants.target]]
name = "size"
size = 2000000

[[quants.target]]
name = "card"
vram = "2GB"
context = 2048
types = ["Q4_K", "Q8_0"]
"""
    fresh = searched(tmp_path / "project", TARGETS + rest)
    planned = {row.ftype: row for row in plan_of(load(fresh.recipe), fresh.folder).files}
    exact = {row.ftype: row for row in plan_of(load(built.recipe), built.folder).files}
    for name, path in files(built).items():
        assert planned[name].bound
        assert not exact[name].bound
        assert exact[name].bytes == path.stat().st_size
        assert planned[name].bytes * 0.99 < exact[name].bytes <= planned[name].bytes
        assert planned[name].bits_per_weight == pytest.approx(exact[name].bits_per_weight, rel=0.005)
    assert planned["like"].bytes == planned["Q4_K_M"].bytes
    assert planned["size"].bytes == 2_000_000
    assert planned["card"].bytes > planned["BF16"].bytes  # all of it has room
    said = built.run("quantmill", "plan", "small").stdout
    assert "≤" not in said
    assert "search: 29 tensors one by one on 384 tokens in 3 chunks" in said
    said = fresh.run("quantmill", "plan", "small").stdout
    assert "≤ 2.13 MB" in said


@pytest.mark.parametrize("bits", [2.5, 4.5])
def test_a_file_runs_elsewhere(built: Project, bits: float) -> None:
    xllamacpp = pytest.importorskip("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path = str(files(built)[f"fit-{bits:g}"])
    server = xllamacpp.Server(params)
    answer = server.handle_completions({"prompt": "one two", "max_tokens": 4})
    assert answer


def test_a_killed_search_goes_on_and_writes_the_same_bytes(built: Project, tmp_path: Path) -> None:
    """Killed once a chunk is done, and at whatever moment before."""
    project = searched(tmp_path / "project")
    project.killed(random.Random(3), 4, "quantmill", "build", "small", "--only", "fit-3")
    process = subprocess.Popen(
        [str(Path(sys.executable).parent / "quantmill"), "build", "small", "--only", "fit-3"],
        cwd=project.folder,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    while process.poll() is None and not [*project.folder.rglob("passes/*-0")]:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert [*project.folder.rglob("passes/*-0")]
    project.run("quantmill", "build", "small", "--only", "fit-3")
    for name in ("sensitivity", "mix/fit-3", "quant/fit-3"):
        assert pointer(project, name) == pointer(built, name)


@pytest.mark.parametrize("kept", ["passes/*-0", "errors.json", "probes.gguf"])
def test_what_a_killed_search_kept_and_is_damaged_is_measured_again(built: Project, tmp_path: Path, kept: str) -> None:
    """One byte of its middle is another, as a disk may have it after a power cut."""
    project = searched(tmp_path / "project")
    process = subprocess.Popen(
        [str(Path(sys.executable).parent / "quantmill"), "build", "small", "--only", "fit-3"],
        cwd=project.folder,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    while process.poll() is None and not [*project.folder.rglob("passes/*-0")]:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (file,) = project.folder.rglob(kept)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    project.run("quantmill", "build", "small", "--only", "fit-3")
    for name in ("sensitivity", "mix/fit-3", "quant/fit-3"):
        assert pointer(project, name) == pointer(built, name)


def pointer(project: Project, name: str) -> object:
    return json.loads((project.folder / "build" / "small" / f"{name}.json").read_text())
