"""build --publish: each file goes to a Hub on loopback when it is made, and is let go; page and tag come last."""

import json
import os
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from disks import SmallDisk
from hub_upload_server import INITIAL, UploadHub
from projects import RECIPE, Project, new_project
from published import REPO, environment, git, tag
from team import Team, forget

MATRIX = '["BF16", "Q8_0", "Q6_K", "Q4_K_M", "Q2_K"]'
PLAIN = RECIPE.replace('["BF16", "Q8_0", "Q4_K_M", "Q2_K"]', MATRIX)
TEXT = f'{PLAIN}\n[publish]\nowner = "someone"\nas_built = true\nkeep_files = 1\n'
LARGE = 10**6  # bytes; every model's file has more, and nothing else
PUBLISHED = re.compile(r"^publish:\S+$", re.MULTILINE)


def project_of(folder: Path, text: str = TEXT) -> Project:
    """A project whose recipe is committed with its lock."""
    project = new_project(folder, text)
    project.run("quantmill", "lock", "small")
    git(project, "init", "-q", "-b", "main")
    git(project, "add", "recipes")
    git(project, "commit", "-q", "-m", "recipe")
    return project


def large(store: Path) -> dict[str, int]:
    """The objects of weights in a store: digest and size."""
    found = {}
    for path in store.rglob("cas/*/*"):
        try:
            found[path.name] = path.stat().st_size
        except FileNotFoundError:  # let go just now
            continue
    return {name: size for name, size in found.items() if size > LARGE}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The release as `doit` builds it, which sends nothing."""
    project = project_of(tmp_path_factory.mktemp("whole") / "project")
    project.run("doit")
    return project.release()


@pytest.fixture
def hub() -> Iterator[UploadHub]:
    server = UploadHub(seed=7)
    yield server
    server.close()


@pytest.mark.parametrize(("jobs", "keep"), [("1", 1), ("3", 1), ("3", 2)])
def test_a_file_is_let_go_when_it_is_published(jobs: str, keep: int, hub: UploadHub, tmp_path: Path) -> None:
    project = project_of(tmp_path / "project", TEXT.replace("keep_files = 1", f"keep_files = {keep}"))
    plain = new_project(tmp_path / "plain", project.recipe.read_text())
    plain.run("doit")
    whole, known, seen = plain.release(), environment(hub, tmp_path), list[int]()
    hub.watch = lambda: seen.append(len(large(project.folder / "cache")))
    done = project.run("quantmill", "build", "small", "-n", jobs, **known)
    assert len(PUBLISHED.findall(done.stdout)) == 5
    assert 2 <= max(seen) <= 1 + keep  # the base, the file that is just sent, and with two the one before or behind it
    assert re.findall("note: .*", done.stdout) == [
        "note: 4 of its files are not here: they are where they were published"
    ]
    assert hub.content(REPO, tag(project)) == whole | INITIAL
    titles = [title for _, _, title in hub.repos[REPO].commits]
    names = ["bf16", "Q8_0", "Q6_K", "Q4_K_M", "Q2_K"]
    assert titles[1:] == [*(f"Add small-{name}.gguf" for name in names), "Add the page and 8 files beside the weights"]
    assert git(project, "tag").split() == [tag(project)]
    here = project.release()
    assert here.keys() == {name for name in whole if not name.endswith(".gguf")} | {"small-bf16.gguf"}
    assert here.items() <= whole.items()
    asked = len(hub.repos[REPO].commits)
    for command in (("quantmill", "build", "small"), ("doit",)):
        assert project.run(*command, **known).stdout.startswith("nothing to do: everything is up to date\n")
    assert "0 bytes to send, 14 files are there already" in project.run("quantmill", "publish", "small", **known).stdout
    project.run("quantmill", "cache", "verify")
    project.run("quantmill", "cache", "gc", "--keep", "pointers", "--keep", "releases", "--keep", "0s")
    assert project.run("doit", **known).stdout.startswith("nothing to do: everything is up to date\n")
    assert len(hub.repos[REPO].commits) == asked
    assert (hub.again, hub.received.keys()) == (0, hub.objects.keys())


def test_the_option_does_what_the_key_does(hub: UploadHub, tmp_path: Path) -> None:
    project = project_of(tmp_path / "project", f'{PLAIN}\n[publish]\nowner = "someone"\n')
    known = environment(hub, tmp_path)
    shown = project.run("quantmill", "build", "small", "--publish", "--dry-run", **known).stdout
    assert "small-Q2_K.gguf  1,661,536 bytes" in shown
    assert not hub.asked
    project.run("quantmill", "build", "small", "--only", "Q2_K", "--publish", **known)
    assert [title for _, _, title in hub.repos[REPO].commits][1:] == ["Add small-Q2_K.gguf"]
    assert len(large(project.folder / "cache")) == 1  # the base
    project.run("quantmill", "build", "small", "--publish", **known)
    assert {"small-Q8_0.gguf", "README.md"} < hub.content(REPO, tag(project)).keys()
    assert "nothing" in project.run("quantmill", "build", "small").stdout
    shown = project.run("quantmill", "build", "small", "--publish", "--dry-run", **known).stdout
    assert "0 bytes to send, 14 files are there already" in shown


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_killed_at_any_moment_it_sends_nothing_twice(
    seed: int, whole: dict[str, bytes], hub: UploadHub, tmp_path: Path
) -> None:
    project, known, kills = project_of(tmp_path / "project"), environment(hub, tmp_path), 6
    hub.breaks = 3
    project.killed(random.Random(seed), kills, "quantmill", "build", "small", "-n", str(1 + seed % 2), **known)
    hub.breaks = 0
    project.run("quantmill", "build", "small", **known)
    assert hub.content(REPO, tag(project)) == whole | INITIAL
    assert hub.again == 0
    assert hub.received.keys() == hub.objects.keys()
    sent_over = sum(count - len(hub.objects[oid]) for oid, count in hub.received.items())
    assert sent_over <= (kills + 3) * max(map(len, hub.objects.values()))
    assert len(large(project.folder / "cache")) == 1
    assert not list((project.folder / "cache" / "work").iterdir())


def test_on_a_disk_that_the_whole_release_would_not_fit(
    whole: dict[str, bytes], hub: UploadHub, small_disk: SmallDisk, tmp_path: Path
) -> None:
    """The plan says 15 MB, of the base as it comes and as it is converted, where all files are 26. It fills once."""
    project = project_of(tmp_path / "project")
    known = environment(hub, tmp_path) | {"QUANTMILL_CACHE": str(small_disk.path / "store")}
    plan = json.loads(project.run("quantmill", "plan", "small", "--json").stdout)
    assert plan["disk_peak"] < 15 * 10**6 < 25 * 10**6 < plan["disk_bytes"]
    small_disk.resize(plan["disk_peak"] // 2**20 + 2)  # a megabyte for what is small

    def fill() -> None:
        if REPO in hub.repos and len(hub.repos[REPO].commits) == 3:
            hub.watch = lambda: None
            small_disk.fill()

    hub.watch = fill
    failed = project.run("quantmill", "build", "small", check=1 if small_disk.mounted else None, **known)
    assert failed.stderr.count("\n") <= 1
    small_disk.free()
    project.run("quantmill", "build", "small", **known)
    assert hub.content(REPO, tag(project)) == whole | INITIAL
    assert hub.again == 0
    assert all(hub.received[oid] == len(data) for oid, data in hub.objects.items())


def test_what_the_hub_lost_is_made_and_sent_again(whole: dict[str, bytes], hub: UploadHub, tmp_path: Path) -> None:
    project, known = project_of(tmp_path / "project"), environment(hub, tmp_path)
    project.run("quantmill", "build", "small", **known)
    repo = hub.repos[REPO]
    _, tree, _ = repo.commits[-1]
    lost = str(tree["small-Q6_K.gguf"])
    repo.commit({name: data for name, data in tree.items() if name != "small-Q6_K.gguf"}, "removed")
    repo.tags.clear()
    del hub.objects[lost]
    repo.commits = repo.commits[-1:]
    before = dict(hub.received)
    done = project.run("quantmill", "build", "small", **known)
    assert (
        "note: someone/small-GGUF: it has small-Q6_K.gguf no more, nor has this machine: it is made again"
        in done.stdout
    )
    assert "2 run, " in done.stdout
    assert hub.content(REPO, tag(project)) == whole | INITIAL
    assert {oid for oid, count in hub.received.items() if count != before[oid]} == {lost}


def test_what_is_read_later_is_made_again(hub: UploadHub, tmp_path: Path) -> None:
    """A text to measure on comes into the recipe after the files have gone."""
    project, known = project_of(tmp_path / "project"), environment(hub, tmp_path)
    project.run("quantmill", "build", "small", **known)
    shutil.copy(Path(__file__).parents[2] / "recipes" / "tiny" / "evaluation.txt", project.folder / "recipes")
    with open(project.recipe, "a") as file:
        file.write('[evaluation]\ntext = "evaluation.txt"\nn_ctx = 64\nchunks = 2\n')
        file.write('[bench]\ntests = ["pp8"]\nrepetitions = 1\nftypes = ["Q8_0", "Q4_K_M"]\n')
    project.run("quantmill", "lock", "small")
    git(project, "commit", "-q", "-a", "-m", "measured")
    before, seen = dict(hub.received), list[int]()
    hub.watch = lambda: seen.append(len(large(project.folder / "cache")))
    done = project.run("quantmill", "build", "small", **known)
    assert "is not in the store" in done.stdout
    assert max(seen) == 2
    content = hub.content(REPO, tag(project))
    assert "report.html" in content
    assert [row["ftype"] for row in json.loads(content["bench.json"])["rows"]] == ["Q8_0", "Q4_K_M"]
    assert hub.received == before | {oid: hub.received[oid] for oid in hub.received if oid not in before}
    assert len(large(project.folder / "cache")) == 1


def test_a_shared_store_is_a_place_for_files_too(tmp_path: Path) -> None:
    text = TEXT.replace('owner = "someone"\n', "")
    team = Team(tmp_path, f"file://{tmp_path}/shared")
    project = team.join(project_of(tmp_path / "project", text), sign=True)
    done = project.run("quantmill", "build", "small")
    assert len(PUBLISHED.findall(done.stdout)) == 5
    assert len(large(project.folder / "cache")) == 1
    here = project.release()
    assert "small-Q2_K.gguf" not in here
    assert project.run("quantmill", "build", "small").stdout == "nothing to do: everything is up to date\n"
    other = team.join(project_of(tmp_path / "other", text))
    assert re.search(r"^0 run, \d+ from the store, 0 failed", other.run("doit").stdout, re.MULTILINE)
    assert other.release().items() > here.items()
    forget(other)
    (other.folder / "quantmill.toml").unlink()
    refused = other.run("quantmill", "build", "small", check=2).stderr
    assert "publish.owner: files that are published as they are built need a place to go" in refused


def test_what_cannot_be_published_is_refused_before_any_work(hub: UploadHub, tmp_path: Path) -> None:
    project, known = project_of(tmp_path / "project"), environment(hub, tmp_path)
    wrong = {**known, "HF_TOKEN": ""}
    assert "set HF_TOKEN to yours" in project.run("quantmill", "build", "small", check=2, **wrong).stderr
    wrong = {**known, "HF_TOKEN": "hf_other"}
    assert "check HF_TOKEN" in project.run("quantmill", "build", "small", check=1, **wrong).stderr
    project.edit("Q2_K", "Q3_K_S")
    for call, named in {
        "build small": "not committed as it is",
        "build small --engine dask": "leave out --engine dask",
    }.items():
        assert named in project.run("quantmill", *call.split(), check=2, **known).stderr
    assert not hub.repos
    assert not (project.folder / "build").exists()


def test_whoever_builds_it_again_sends_nothing(whole: dict[str, bytes], hub: UploadHub, tmp_path: Path) -> None:
    project, known = project_of(tmp_path / "project"), environment(hub, tmp_path)
    project.run("doit", **known)
    project.run("quantmill", "reproduce", "release/small", **known)
    assert project.release() == whole
    assert not hub.asked
    assert os.path.samefile(project.folder / "release/small/small-Q2_K.gguf", next(
        path for path in (project.folder / "cache").rglob("cas/*/*") if path.read_bytes() == whole["small-Q2_K.gguf"]
    ))  # fmt: skip
