"""publish: to a Hub on loopback that breaks connections; what arrives is complete and equal, and tagged."""

import json
import os
import random
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub_upload_server import INITIAL, TOKEN, UploadHub
from projects import RECIPE, ROOT, Project
from published import REPO, environment, git, tag
from quantmill.disk import sha256_file
from quantmill.errors import UsageError
from quantmill.release import publish

# huggingface_hub's own way to call httpx, when it sends a file
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A release with a folder of shards, its recipe and lock committed."""
    project = Project(tmp_path_factory.mktemp("publish"))
    shutil.copytree(ROOT / "recipes" / "tiny", project.folder / "recipes" / "tiny")
    text = RECIPE.replace('"Q8_0", "Q4_K_M", "Q2_K"', '"Q8_0", "Q4_K_M"')
    project.recipe.write_text(f'{text}\n[split]\nmax_size = "3MB"\n\n[publish]\nowner = "someone"\n')
    project.run("quantmill", "build", "small")
    git(project, "init", "-q", "-b", "main")
    git(project, "add", "recipes")
    git(project, "commit", "-q", "-m", "recipe")
    return project


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[UploadHub]:
    """The server, and this process's huggingface_hub pointed at it, which waits a thousandth of what it would."""
    from huggingface_hub import constants

    server = UploadHub(seed=7)
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    wait = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: wait(seconds / 1000))
    yield server
    server.close()


def test_the_command_shows_first_and_sends_when_told(built: Project, hub: UploadHub, tmp_path: Path) -> None:
    known = environment(hub, tmp_path)
    shown = built.run("quantmill", "publish", "small", **known).stdout
    assert not hub.repos
    files = built.release()
    assert all(f"  {name}  " in shown for name in files)
    shown = built.run("quantmill", "publish", "small", "--dry-run", **known).stdout
    assert shown.endswith("nothing was sent; --yes sends it\n")
    plan = json.loads(built.run("quantmill", "publish", "small", "--dry-run", "--json", **known).stdout)
    assert (plan["repo"], plan["tag"], plan["create"], plan["git_tag"]) == (REPO, tag(built), True, True)
    assert {file["name"] for file in plan["commits"][-1]} >= {"README.md", "SHA256SUMS", "release.json"}
    assert plan["bytes"] == sum(map(len, files.values()))
    done = built.run("quantmill", "publish", "small", "--yes", **known).stdout
    assert done.splitlines()[-1].startswith(f"{REPO} at {tag(built)} (")
    assert hub.content(REPO, tag(built)) == files | INITIAL
    titles = [title for _, _, title in hub.repos[REPO].commits]
    assert titles[-1].startswith("Add the page")
    assert "Add small-bf16/" in titles
    assert git(built, "tag").split() == [tag(built)]
    commits = len(titles)
    again = built.run("quantmill", "publish", "small", "--yes", **known).stdout
    assert f"{len(files)} files are there already" in again
    assert len(hub.repos[REPO].commits) == commits


def send(built: Project) -> str:
    files = publish.files_of(built.folder / "release" / "small", sha256_file)
    return publish.send(files, publish.prepare(REPO, tag(built), files), lambda line: None)


def test_a_repository_is_private_where_the_recipe_says_so(built: Project, hub: UploadHub) -> None:
    files = publish.files_of(built.folder / "release" / "small", sha256_file)
    for private in (True, False):
        hub.repos.clear()
        publish.send(files, publish.prepare(REPO, tag(built), files), lambda line: None, private)
        assert hub.repos[REPO].private is private


def test_broken_connections_lose_nothing(built: Project, hub: UploadHub) -> None:
    files = publish.files_of(built.folder / "release" / "small", sha256_file)
    hub.repos.clear()
    sending = publish.prepare(REPO, tag(built), files)
    hub.breaks = int(os.environ.get("QUANTMILL_BREAKS", "25"))
    told: list[str] = []
    for _ in range(40):  # as a person runs it again
        try:
            commit = publish.send(files, sending, lambda line: None)
            break
        except publish.HubError as error:
            told.append(str(error))
    assert hub.breaks == 0, told
    assert len(hub.broken) == 4
    assert hub.content(REPO, tag(built)) == built.release() | INITIAL
    assert hub.repos[REPO].tags == {tag(built): commit}


@pytest.mark.parametrize("seed", [1, 2])
def test_what_is_killed_as_it_sends_is_gone_on_with(seed: int, built: Project, hub: UploadHub, tmp_path: Path) -> None:
    known = environment(hub, tmp_path)
    hub.breaks = 3
    built.killed(random.Random(seed), 6, "quantmill", "publish", "small", "--yes", **known)
    hub.breaks = 0
    built.run("quantmill", "publish", "small", "--yes", **known)
    assert hub.content(REPO, tag(built)) == built.release() | INITIAL
    assert hub.repos[REPO].tags == {tag(built): hub.repos[REPO].commits[-1][0]}


def test_what_arrived_is_not_sent_again(built: Project, hub: UploadHub) -> None:
    files = publish.files_of(built.folder / "release" / "small", sha256_file)
    first = next(file for file in files if file.name.endswith("Q4_K_M.gguf"))
    from huggingface_hub import HfApi

    HfApi().create_repo(REPO)
    HfApi().upload_file(path_or_fileobj=str(first.path), path_in_repo=first.name, repo_id=REPO)
    before = dict(hub.received)
    sending = publish.prepare(REPO, tag(built), files)
    assert first.name not in {file.name for commit in sending.commits for file in commit}
    send(built)
    assert hub.received[first.sha256] == before[first.sha256] == first.size
    assert hub.content(REPO, tag(built)) == built.release() | INITIAL


def test_files_of_an_earlier_release_go_and_others_stay(built: Project, hub: UploadHub, tmp_path: Path) -> None:
    from huggingface_hub import HfApi

    HfApi().create_repo(REPO)
    listing = {"files": [{"name": "small-Q2_K.gguf"}]}
    theirs = {"release.json": json.dumps(listing).encode(), "small-Q2_K.gguf": b"GGUF old", "mine.txt": b"mine"}
    for name, data in theirs.items():
        (tmp_path / name).write_bytes(data)
        HfApi().upload_file(path_or_fileobj=str(tmp_path / name), path_in_repo=name, repo_id=REPO)
    send(built)
    assert hub.content(REPO, "main") == built.release() | INITIAL | {"mine.txt": b"mine"}


def test_two_signers_publish_one_release(built: Project, hub: UploadHub, tmp_path: Path) -> None:
    """Who comes second has the tag's own files and sends nothing; a signature that covers them no more goes."""
    from huggingface_hub import HfApi

    copy = Project(tmp_path / "copy")
    shutil.copytree(built.folder, copy.folder, symlinks=True)
    envelope = copy.folder / "release" / "small" / "provenance.dsse.json"
    envelope.write_text("the first")
    send(copy)
    assert hub.content(REPO, tag(built)) == built.release() | INITIAL | {envelope.name: b"the first"}
    commits = len(hub.repos[REPO].commits)
    envelope.write_text("the second")
    send(copy)
    send(built)
    assert len(hub.repos[REPO].commits) == commits
    assert hub.content(REPO, tag(built))[envelope.name] == b"the first"
    hub.repos[REPO].tags.clear()
    HfApi().upload_file(path_or_fileobj=b"changed", path_in_repo="README.md", repo_id=REPO)
    send(built)
    assert hub.content(REPO, tag(built)) == built.release() | INITIAL


def test_a_tag_of_other_files_is_not_moved(built: Project, hub: UploadHub) -> None:
    from huggingface_hub import HfApi

    HfApi().create_repo(REPO)
    HfApi().create_tag(REPO, tag=tag(built))
    taken = f"{REPO}: the tag {tag(built)} is there already, where "
    with pytest.raises(UsageError, match=f"^{re.escape(taken)}.* is another file; a tag is never moved: "):
        send(built)
    assert len(hub.repos[REPO].commits) == 1


def test_what_must_not_be_published_is_refused(built: Project, hub: UploadHub, tmp_path: Path) -> None:
    known = environment(hub, tmp_path)
    assert (
        "check HF_TOKEN"
        in built.run("quantmill", "publish", "small", "--yes", check=1, **{**known, "HF_TOKEN": "hf_other"}).stderr
    )
    copy = Project(tmp_path / "copy")
    shutil.copytree(built.folder, copy.folder, symlinks=True)
    path = copy.folder / "release" / "small" / "small-Q4_K_M.gguf"
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[:-1] + b"+")
    refused = copy.run("quantmill", "publish", "small", check=1, **known).stderr
    assert "this is not the file that release.json lists; build the release again" in refused
    path.write_bytes(data)
    copy.recipe.write_text("# a comment\n" + copy.recipe.read_text())
    assert "this is not committed as it is" in copy.run("quantmill", "publish", "small", check=2, **known).stderr
    copy.edit("Q4_K_M", "Q4_K_S")
    assert "build it first" in copy.run("quantmill", "publish", "small", check=2, **known).stderr
    copy.edit('[publish]\nowner = "someone"', "")
    assert "does not say where to publish" in copy.run("quantmill", "publish", "small", check=2, **known).stderr
