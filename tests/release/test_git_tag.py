"""reproduce by a tag alone: of the recipe's git repository, or of a repository of the Hub."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub_upload_server import UploadHub
from projects import RECIPE, ROOT, Project
from published import REPO, environment, git, tag


@pytest.fixture(scope="module")
def hub() -> Iterator[UploadHub]:
    server = UploadHub(seed=1)
    yield server
    server.close()


@pytest.fixture(scope="module")
def kept(hub: UploadHub, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str, Path]:
    """A project whose published release is gone here and whose recipe has moved on; the tag; a copy of the release."""
    project = Project(tmp_path_factory.mktemp("tagged"))
    shutil.copytree(ROOT / "recipes" / "tiny", project.folder / "recipes" / "tiny")
    project.recipe.write_text(RECIPE.replace('"Q8_0", "Q4_K_M", "Q2_K"', '"Q8_0"') + '\n[publish]\nowner = "someone"\n')
    project.run("quantmill", "build", "small")
    git(project, "init", "-q", "-b", "main")
    (project.folder / ".gitignore").write_text("build/\nrelease/\ncache/\nhf/\n")
    git(project, "add", ".")
    git(project, "commit", "-q", "-m", "recipe")
    made = tag(project)
    project.run("quantmill", "publish", "small", "--yes", **environment(hub, project.folder / "hf"))
    copy = tmp_path_factory.mktemp("copy") / "release"
    shutil.copytree(project.folder / "release" / "small", copy)
    for name in ("build", "release", "cache"):
        shutil.rmtree(project.folder / name)
    project.edit('"Q8_0"', '"Q2_K"')
    (project.folder / "recipes" / "tiny" / "config.json").write_text("{}")
    git(project, "commit", "-q", "-a", "-m", "another recipe")
    (project.folder / "recipes" / "small.lock").write_text("not committed")
    return project, made, copy


def reproduce(project: Project, hub: UploadHub, *arguments: str, check: int = 0) -> str:
    known = environment(hub, project.folder / "hf")
    done = project.run("quantmill", "reproduce", *arguments, check=check, **known)
    return done.stderr if check == 2 else done.stdout


def test_a_git_tag_is_what_the_hub_has(kept: tuple[Project, str, Path], hub: UploadHub) -> None:
    project, made, copy = kept
    before = git(project, "status", "--porcelain")
    done = json.loads(reproduce(project, hub, made, "--json"))
    assert (done["tag"], done["same"]) == (made, True)
    assert {file["name"] for file in done["files"]} == {path.name for path in copy.iterdir()}
    assert git(project, "status", "--porcelain") == before == " M recipes/small.lock\n"
    assert not (project.folder / "release").exists()


def test_a_git_tag_against_a_folder(kept: tuple[Project, str, Path], hub: UploadHub, tmp_path: Path) -> None:
    project, made, copy = kept
    mine = shutil.copytree(copy, tmp_path / "mine")
    path = mine / "small-Q8_0.gguf"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    told = reproduce(project, hub, made, "--against", str(mine), check=1).splitlines()
    (named,) = [line for line in told if line.startswith("small-")]
    assert named.startswith("small-Q8_0.gguf: tensor ")
    assert named.endswith(" is the first that differs, 1 in all")
    count = len(list(mine.iterdir()))
    assert told[-2] == f"{mine}: {count - 1} of {count} files are the same"


def test_a_recipe_that_begins_with_a_mark(kept: tuple[Project, str, Path], hub: UploadHub, tmp_path: Path) -> None:
    project, made, copy = kept
    marked = Project(shutil.copytree(project.folder, tmp_path / "marked"))
    git(marked, "checkout", "-q", "-f", made)
    marked.recipe.write_text("\N{BYTE ORDER MARK}" + marked.recipe.read_text())
    git(marked, "commit", "-q", "-a", "-m", "by an editor of Windows")
    git(marked, "tag", "-f", made)
    told = reproduce(marked, hub, made, "--against", str(copy)).splitlines()
    count = len(list(copy.iterdir()))
    assert told[-2] == f"{copy}: {count} of {count} files are the same, {made}"


def test_a_hub_repository_s_tag_needs_no_git(kept: tuple[Project, str, Path], hub: UploadHub, tmp_path: Path) -> None:
    _, made, copy = kept
    there = Project(tmp_path)
    base = tmp_path / "inputs"
    shutil.copytree(ROOT / "recipes" / "tiny", base / "tiny")
    told = reproduce(there, hub, f"{REPO}@{made}", "--beside", str(base)).splitlines()
    count = len(list(copy.iterdir()))
    assert told[-2:] == [
        f"{REPO} at {made}: {count} of {count} files are the same, {made}",
        f"{REPO} at {made}: it is not signed",
    ]
    repo = hub.repos[REPO]
    good = repo.tags[made]
    tree = dict(repo.commits[-1][1])
    hub.objects["e" * 64] = b"GGUF other"
    repo.tags[made] = repo.commit({**tree, "small-Q8_0.gguf": "e" * 64, "theirs.txt": b"no part of it"}, "other")
    done = json.loads(reproduce(there, hub, f"{REPO}@{made}", "--beside", str(base), "--json", check=1))
    wrong = {file["name"]: file["differences"] for file in done["files"] if not file["same"]}
    repo.tags[made] = good
    ((name, (difference,)),) = wrong.items()
    assert name == "small-Q8_0.gguf"
    assert difference.startswith(f"the Hub has 10 bytes of it, sha256 {'e' * 64}; built again it has ")


def test_what_is_not_there_is_a_sentence(kept: tuple[Project, str, Path], hub: UploadHub, tmp_path: Path) -> None:
    project, made, copy = kept
    other = made[:-1] + ("0" if made[-1] != "0" else "1")
    cure = "name the folder of a release, its tag, or owner/name@tag of the Hub"
    hint = "name a folder with the release, by --against for a git tag"
    nothing = "there is no such folder, release below release/ or git tag here"
    assert reproduce(project, hub, other, check=2) == f"quantmill: {other}: {nothing} (did you mean {made}?); {cure}\n"
    assert reproduce(Project(tmp_path), hub, made, check=2) == f"quantmill: {made}: {nothing}; {cure}\n"
    git(project, "tag", "b5490-000000000000", "main")  # the one recipe there is taken, and another base is found
    said = reproduce(project, hub, "b5490-000000000000", "--against", str(copy), check=2)
    assert said.startswith(f"quantmill: {copy}: config.json of the base changed, in ")
    git(project, "tag", "b9999-000000000000", "main")
    said = reproduce(project, hub, "b9999-000000000000", check=2)
    assert "the git tag is there, but no recipe of its commit makes it with this quantmill (none is of" in said
    for place, problem in (
        (f"{REPO}@{other}", f"the repository has no such tag (did you mean {made}?)"),
        (f"someone/none@{made}", "the Hub shows no such repository"),
    ):
        assert (
            reproduce(project, hub, place, check=2) == f"quantmill: {place.replace('@', ' at ')}: {problem}; {hint}\n"
        )
    said = reproduce(project, hub, f"{REPO}@{made}", "--against", str(copy), check=2)
    assert said == "quantmill: --against is the folder that a git tag's release is in; name the tag alone beside it\n"
