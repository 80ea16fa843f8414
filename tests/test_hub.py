"""Bases on the Hub, with the real client against a real server on loopback: locked, downloaded, resumed, refused."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import RECIPE, TINY, Project
from hub_helpers import WEIGHTS, download_pointer, fails, ggufs, impatient, in_store, lock_of, part_of, wait_for
from hub_server import CLOSED, Front, Repository, olah, olah_program

README = b"---\nlicense: mit\nlanguage:\n- en\ntags:\n- tiny\n---\n# Tiny\n\nA small model.\n"
HUB = RECIPE.replace('path = "tiny"', 'repo = "acme/tiny"').replace(
    '"BF16", "Q8_0", "Q4_K_M", "Q2_K"', '"BF16", "Q8_0"'
)
LOCAL = HUB.replace('repo = "acme/tiny"', 'path = "tiny"')


def tiny_files() -> dict[str, bytes]:
    names = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", WEIGHTS)
    return {name: (TINY / name).read_bytes() for name in names} | {"README.md": README}


@pytest.fixture(scope="session")
def mirrors(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[tuple[Path, int]]:
    """The folder of the repositories that a running olah serves, and its port."""
    cache: pytest.Cache | None = getattr(pytestconfig, "cache", None)  # -p no:cacheprovider
    program = olah_program(cache.mkdir("olah") if cache else tmp_path_factory.mktemp("program"))
    folder = tmp_path_factory.mktemp("olah")
    (folder / "mirrors" / "models").mkdir(parents=True)
    with olah(program, folder) as port:
        yield folder / "mirrors" / "models", port


class Hub:
    """The front, and the repository acme/tiny behind it with one commit on main."""

    def __init__(self, front: Front, repository: Repository, first: str) -> None:
        self.front, self.repository, self.first = front, repository, first


@pytest.fixture
def hub(mirrors: tuple[Path, int]) -> Iterator[Hub]:
    folder, port = mirrors
    shutil.rmtree(folder / "acme", ignore_errors=True)
    repository = Repository(folder / "acme" / "tiny")
    front = Front(port)
    yield Hub(front, repository, repository.commit(tiny_files()))
    front.close()


@pytest.fixture
def project(make_project: Callable[..., Project], hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Project:
    """A project whose base is acme/tiny at main; the Hub's own cache is empty."""
    monkeypatch.setenv("HF_ENDPOINT", hub.front.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "5")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    made = make_project("hub", HUB)
    shutil.rmtree(made.folder / "recipes" / "tiny")
    return made


def test_lock_pins_what_the_branch_is_now(project: Project, hub: Hub) -> None:
    project.run("quantmill", "lock", "small")
    lock = lock_of(project)
    assert lock["base"] == {"repo": "acme/tiny", "revision": "main", "commit": hub.first}
    assert lock["files"] == {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)} for name, data in tiny_files().items()
    }
    assert lock["config"] == json.loads((TINY / "config.json").read_text())
    assert WEIGHTS not in hub.front.sent  # LFS tells its digest


def test_plan_needs_the_lock_alone(project: Project, make_project: Callable[..., Project]) -> None:
    project.run("quantmill", "lock", "small")
    plan = json.loads(project.run("quantmill", "plan", "small", "--json", HF_ENDPOINT=CLOSED).stdout)
    local = make_project("local", LOCAL)
    (local.folder / "recipes" / "tiny" / "README.md").write_bytes(README)
    assert plan["files"] == json.loads(local.run("quantmill", "plan", "small", "--json").stdout)["files"]
    assert "download:small" in {task["name"] for task in plan["tasks"]}


def test_a_release_from_the_hub_is_that_of_the_folder(
    project: Project, hub: Hub, make_project: Callable[..., Project]
) -> None:
    local = make_project("local", LOCAL)
    (local.folder / "recipes" / "tiny" / "README.md").write_bytes(README)
    local.run("quantmill", "build", "small")
    project.run("quantmill", "build", "small")
    assert ggufs(project) == ggufs(local)
    assert len(ggufs(project)) == 2
    assert hub.front.sent[WEIGHTS] == (TINY / WEIGHTS).stat().st_size
    again = project.run("quantmill", "build", "small", "--locked", HF_ENDPOINT=CLOSED)
    assert again.stdout == "nothing to do: everything is up to date\n"
    shutil.rmtree(project.folder / "build")
    shutil.rmtree(project.folder / "release")
    assert project.run("quantmill", "build", "small", HF_ENDPOINT=CLOSED).stdout.splitlines()[-1].startswith("0 run, ")
    assert ggufs(project) == ggufs(local)


def test_a_new_commit_is_taken_when_locked_again(project: Project, hub: Hub) -> None:
    project.run("quantmill", "build", "small")
    before, lock = project.release(), lock_of(project)
    second = hub.repository.commit({"README.md": README.replace(b"mit", b"apache-2.0")})
    assert project.run("quantmill", "build", "small").stdout == "nothing to do: everything is up to date\n"
    assert lock_of(project) == lock
    project.run("quantmill", "lock", "small")
    assert lock_of(project)["base"]["commit"] == second
    assert {n for n, f in lock_of(project)["files"].items() if f != lock["files"][n]} == {"README.md"}
    project.run("quantmill", "build", "small")
    assert project.release()["small-bf16.gguf"] != before["small-bf16.gguf"]  # the licence is in its metadata
    project.edit('repo = "acme/tiny"', f'repo = "acme/tiny"\nrevision = "{hub.first}"')
    project.run("quantmill", "build", "small")
    assert lock_of(project)["base"]["commit"] == hub.first
    assert ggufs(project) == {name: data for name, data in before.items() if name.endswith(".gguf")}


def test_every_file_may_be_in_lfs(project: Project, hub: Hub) -> None:
    project.run("quantmill", "lock", "small")
    lock = lock_of(project)
    hub.repository.commit(tiny_files(), lfs=lambda name: True)
    project.run("quantmill", "lock", "small")
    assert lock_of(project)["files"] == lock["files"]
    assert lock_of(project)["metadata_bytes"] == lock["metadata_bytes"]


def test_files_that_a_conversion_does_not_read_are_left_there(project: Project, hub: Hub) -> None:
    hub.repository.commit(
        {
            "consolidated.safetensors": b"a second copy",
            "adapter_model.safetensors": b"an adapter",
            "pytorch_model.bin": b"a pickle",
            "original/model.safetensors": b"below",
            ".hidden.json": b"{}",
        }
    )
    project.run("quantmill", "lock", "small")
    assert sorted(lock_of(project)["files"]) == sorted(tiny_files())


def test_only_pickles_are_refused(project: Project, hub: Hub) -> None:
    (hub.repository.folder / WEIGHTS).unlink()
    hub.repository.commit({"pytorch_model.bin": b"a pickle"})
    assert fails(project, "quantmill", "lock", "small", code=2) == (
        "quantmill: acme/tiny: its weights are pickled (pytorch_model.bin), which can run code when read; give a model "
        "whose weights are safetensors"
    )


def test_no_such_repository(project: Project) -> None:
    project.edit("acme/tiny", "acme/tinny")
    assert fails(project, "quantmill", "build", "small", code=2) == (
        "quantmill: acme/tinny at main: the Hub shows no such model; check base.repo, or set HF_TOKEN to the token of "
        "an account that may read it"
    )


def test_no_such_revision(project: Project, hub: Hub) -> None:
    hub.repository.tag("v1.0")
    project.edit('repo = "acme/tiny"', 'repo = "acme/tiny"\nrevision = "v1.1"')
    expected = (
        "quantmill: acme/tiny at v1.1: the model has no such branch, tag or commit (did you mean v1.0?), it has main, "
        "v1.0; check base.revision"
    )
    assert fails(project, "quantmill", "lock", "small", code=2) == expected
    hub.front.answers = [("revision/v1.1", 404, {"X-Error-Code": "RevisionNotFound"}, b"")]  # as the Hub says it
    assert fails(project, "quantmill", "lock", "small", code=2) == expected


def test_a_gated_model(project: Project, hub: Hub) -> None:
    hub.front.answers = [("/api/models/", 403, {"X-Error-Code": "GatedRepo"}, b"")]
    assert fails(project, "quantmill", "lock", "small", code=2) == (
        "quantmill: acme/tiny at main: the model is gated; accept its terms on its page and set HF_TOKEN to your token"
    )


@pytest.mark.parametrize("command", ["lock", "build"])
def test_a_server_that_is_down(project: Project, command: str) -> None:
    assert fails(project, "quantmill", command, "small", HF_ENDPOINT=CLOSED) == (
        f"quantmill: acme/tiny at main: {CLOSED} cannot be reached or breaks off; check the network and run again, "
        "what has arrived is kept"
    )
    assert not project.recipe.with_suffix(".lock").exists()


def test_a_server_that_is_down_after_the_lock(project: Project, hub: Hub) -> None:
    project.run("quantmill", "lock", "small")
    said = fails(project, "quantmill", "build", "small", HF_ENDPOINT=CLOSED)
    assert said.endswith(
        f"acme/tiny at {hub.first}: {WEIGHTS}: {CLOSED} cannot be reached or breaks off; check the network and run "
        "again, what has arrived is kept"
    )
    assert in_store(project) == []


def test_offline_is_said(project: Project, hub: Hub) -> None:
    assert fails(project, "quantmill", "lock", "small", HF_HUB_OFFLINE="1") == (
        "quantmill: acme/tiny at main: it has to be asked of the Hub, which HF_HUB_OFFLINE forbids"
    )


def test_a_file_that_is_refused(project: Project, hub: Hub) -> None:
    project.run("quantmill", "lock", "small")
    for status, code, problem in (
        (404, "EntryNotFound", f"the Hub has no file {WEIGHTS} there; lock the recipe again"),
        (403, "", f"{WEIGHTS}: the Hub forbids it; check HF_TOKEN"),
        (500, "", f"{WEIGHTS}: the Hub answers with HTTP 500; try again later"),
    ):
        hub.front.answers = [(f"/cdn/.*{WEIGHTS}", status, {"X-Error-Code": code} if code else {}, b"")]
        said = fails(project, *impatient("build", "small"))
        assert said.endswith(f"acme/tiny at {hub.first}: {problem}")
        assert in_store(project) == []
    hub.front.answers = []
    project.run("doit", "download:small")


def test_a_file_other_than_the_locked_one(project: Project, hub: Hub) -> None:
    project.run("quantmill", "lock", "small")
    data = (TINY / WEIGHTS).read_bytes()
    other = data[:-1] + bytes([data[-1] ^ 1])
    digests = [hashlib.sha256(content).hexdigest()[:16] for content in (other, data)]
    accept = "run 'quantmill lock' to accept it"
    for content, problem in (
        (other, f"has sha256 {digests[0]}…, the lock says {digests[1]}…; restore the file, or {accept}"),
        (data + b"more", f"comes with more than {len(data)} bytes, the lock says {len(data)}; {accept} as it is"),
        (data[:-4], f"comes with {len(data) - 4} bytes, the lock says {len(data)}; {accept} as it is"),
        (b"<html>log in</html>", f"comes with 19 bytes, the lock says {len(data)}; {accept} as it is"),
    ):
        hub.front.instead[WEIGHTS] = content
        said = fails(project, "quantmill", "build", "small")
        assert said.endswith(f"acme/tiny at {hub.first}: {WEIGHTS} {problem}")
        assert in_store(project) == []
    hub.front.instead.clear()
    project.run("doit", "download:small")  # nothing of the wrong ones was kept


def test_killed_half_way_and_resumed(project: Project, hub: Hub) -> None:
    hub.front.hold = 5 << 20
    run = subprocess.Popen(
        [Path(sys.executable).parent / "quantmill", "build", "small"],
        cwd=project.folder,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert hub.front.holding.wait(60)
    wait_for(lambda: (part := part_of(project)) is not None and part.stat().st_size >= 4 << 20)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    hub.front.go.set()
    part = part_of(project)
    assert part is not None
    have = part.stat().st_size
    assert in_store(project) == []
    hub.front.reset()
    project.run("doit", "download:small")
    assert hub.front.sent[WEIGHTS] == (TINY / WEIGHTS).stat().st_size - have
    assert download_pointer(project) == {
        name: {"sha256": f["sha256"], "size": f["size"]} for name, f in lock_of(project)["files"].items()
    }
    assert not list((project.folder / "cache" / "work").iterdir())


def test_connections_that_break_are_taken_up_again(project: Project, hub: Hub) -> None:
    hub.front.cuts = [2 << 20, 1 << 20, 0, 1 << 20]
    project.run("doit", "download:small")
    size = (TINY / WEIGHTS).stat().st_size
    assert size <= hub.front.sent[WEIGHTS] <= size + 3 * (1 << 20)  # at most what was in flight at each break


def test_a_server_without_ranges_sends_all_of_it_again(project: Project, hub: Hub) -> None:
    hub.front.ranges, hub.front.cuts = False, [3 << 20]
    project.run("doit", "download:small")
    assert hub.front.sent[WEIGHTS] == (TINY / WEIGHTS).stat().st_size + (3 << 20)


def test_the_mirror_itself_without_a_front(project: Project, hub: Hub) -> None:
    direct = f"http://127.0.0.1:{hub.front.olah_port}"
    project.run("quantmill", "build", "small", HF_ENDPOINT=direct)
    assert hub.front.asked == []
    assert len(ggufs(project)) == 2


def test_a_connection_that_always_breaks_is_one_sentence_and_nothing_is_lost(project: Project, hub: Hub) -> None:
    hub.front.cuts = [3 << 20] + [0] * 10
    said = fails(project, *impatient("build", "small"))
    assert said.endswith(
        f"acme/tiny at {hub.first}: {WEIGHTS}: {hub.front.url} cannot be reached or breaks off; check the network and "
        "run again, what has arrived is kept"
    )
    assert in_store(project) == []
    part = part_of(project)
    assert part is not None
    have = part.stat().st_size
    assert have >= 2 << 20
    hub.front.reset()
    project.run("doit", "download:small")
    assert hub.front.sent[WEIGHTS] == (TINY / WEIGHTS).stat().st_size - have


def test_a_damaged_part_is_fetched_again(project: Project, hub: Hub) -> None:
    """What power loss leaves can have the right length and the wrong bytes."""
    hub.front.cuts = [3 << 20] + [0] * 10
    fails(project, *impatient("build", "small"))
    part = part_of(project)
    assert part is not None
    part.write_bytes(bytes(part.stat().st_size))
    hub.front.reset()
    project.run("doit", "download:small")


def test_a_damaged_file_of_the_hubs_cache_is_not_locked(project: Project, hub: Hub, tmp_path: Path) -> None:
    project.run("quantmill", "lock", "small")
    lock = lock_of(project)
    config = next((tmp_path / "hf").rglob("snapshots/*/config.json")).resolve()
    config.write_bytes(bytes(config.stat().st_size))
    project.recipe.with_suffix(".lock").unlink()
    project.run("quantmill", "lock", "small")
    assert lock_of(project) == lock


def test_a_model_in_the_hubs_cache_is_not_fetched_again(project: Project, hub: Hub) -> None:
    script = "import huggingface_hub as h; print(h.snapshot_download('acme/tiny'))"
    snapshot = project.run("python", "-c", script).stdout.strip()
    assert hub.front.sent.pop(WEIGHTS) == (TINY / WEIGHTS).stat().st_size
    project.run("doit", "download:small")
    assert WEIGHTS not in hub.front.sent
    weights = (Path(snapshot) / WEIGHTS).resolve()
    weights.write_bytes(bytes(weights.stat().st_size))  # damaged there: fetched
    shutil.rmtree(project.folder / "cache")
    project.run("doit", "download:small")
    assert hub.front.sent[WEIGHTS] == (TINY / WEIGHTS).stat().st_size


def test_a_token_goes_to_the_hub_and_nowhere_else(project: Project, hub: Hub) -> None:
    project.run("doit", "download:small", HF_TOKEN="hf_secret")
    asked = {(path.startswith("/cdn/"), token) for _, path, token in hub.front.asked if "/acme/tiny/" in path}
    assert asked == {(False, "Bearer hf_secret"), (True, None)}


def test_a_file_beyond_the_limit_of_plain_http_is_left_to_the_hubs_client(project: Project, tmp_path: Path) -> None:
    project.run("quantmill", "lock", "small")
    commit = lock_of(project)["base"]["commit"]
    script = (
        "import sys; from pathlib import Path; from quantmill import hub; hub.HTTP_LIMIT = 1 << 20; got = []\n"
        f"hub.fetch('acme/tiny', '{WEIGHTS}', '{commit}', Path(sys.argv[1]), {(TINY / WEIGHTS).stat().st_size}, "
        "got.append)\nprint(sum(got))"
    )
    done = project.run("python", "-c", script, str(tmp_path / "part"))
    assert int(done.stdout) == (TINY / WEIGHTS).stat().st_size
    assert (tmp_path / "part").read_bytes() == (TINY / WEIGHTS).read_bytes()


def test_hostile_names_in_a_listing(project: Project, hub: Hub) -> None:
    for name in ("a\\..\\x.json", "C:x.json", "line\nbreak.json", "../x.json", "/etc/x.json"):
        tree = [{"type": "file", "oid": "0" * 40, "size": 2, "path": n} for n in (name, "config.json", WEIGHTS)]
        hub.front.answers = [("/tree/", 200, {"Content-Type": "application/json"}, json.dumps(tree).encode())]
        said = fails(project, "quantmill", "lock", "small", code=1 if "/" in name else 2)
        if "/" not in name:  # what is not at the top is never asked for
            assert said == f"quantmill: acme/tiny: {name!r} cannot be the name of a base file; rename it there"
        assert not any("x.json" in path for _, path, _ in hub.front.asked)
    assert not list(project.folder.parent.rglob("*x.json"))


def test_a_new_commit_fetches_what_is_new_in_it(project: Project, hub: Hub) -> None:
    project.run("doit", "download:small")
    hub.front.reset()
    hub.repository.commit({"README.md": README.replace(b"mit", b"apache-2.0")})
    project.run("quantmill", "lock", "small")
    project.run("doit", "download:small")
    assert WEIGHTS not in hub.front.sent
    assert sorted(download_pointer(project)) == sorted(tiny_files())


def test_killed_while_the_store_took_the_files(project: Project, hub: Hub) -> None:
    script = (
        "import os; from quantmill import cli, store; adopt = store.Store.adopt\n"
        "def killed(self, path, remove=True):\n"
        "    if path.name == 'tokenizer.json': path.chmod(0o444); os.kill(os.getpid(), 9)\n"
        "    return adopt(self, path)\n"
        "store.Store.adopt = killed; cli.main(['build', 'small'])"
    )
    project.run("python", "-c", script, check=-signal.SIGKILL)
    assert hub.front.sent.pop(WEIGHTS) == (TINY / WEIGHTS).stat().st_size
    shutil.rmtree(os.environ["HF_HOME"])
    project.run("doit", "download:small")
    assert WEIGHTS not in hub.front.sent
    assert sorted(download_pointer(project)) == sorted(tiny_files())


def test_choose_reads_a_repository(project: Project, hub: Hub) -> None:
    """From its listing and the beginning of one file: the same advice as for the same files in a folder."""
    project.edit('["BF16", "Q8_0"]', '["BF16", "Q8_0", "Q4_K_M", "Q3_K_M"]')
    project.run("quantmill", "build", "small")
    files = ggufs(project)
    folder = project.folder / "release" / "small"
    hub.repository.commit(files | {"release.json": (folder / "release.json").read_bytes()})
    machine = ("--backend", "cuda", "--vram", "8", "--ram", "16", "--json")
    here = json.loads(project.run("quantmill", "choose", str(folder), *machine).stdout)
    there = json.loads(project.run("quantmill", "choose", "acme/tiny", *machine).stdout)
    assert there["choice"]["file"] == here["choice"]["file"] == "small-Q8_0.gguf"
    assert there["choice"]["gpu_layers"] == 5
    assert there["choice"]["vram_bytes"] >= here["choice"]["vram_bytes"]
    for path in hub.repository.folder.glob("*.gguf"):
        path.unlink()
    hub.repository.commit({"imatrix.gguf": b"no model"})
    assert fails(project, "quantmill", "choose", "acme/tiny", *machine, code=2) == (
        "quantmill: acme/tiny: there are no GGUF files of a known ftype in it; give a recipe, a release's folder or a "
        "Hub repository with GGUF files"
    )


def test_what_a_lock_leaves_open_is_filled_in(project: Project, hub: Hub) -> None:
    config = json.loads((TINY / "config.json").read_text())
    base = {"repo": "acme/tiny", "revision": "main"}
    lock = {"format": 1, "unresolved": ["base.commit", "files"], "base": base, "files": {}, "config": config}
    project.recipe.with_suffix(".lock").write_text(json.dumps(lock | {"metadata_bytes": None}))
    planned = json.loads(project.run("quantmill", "plan", "small", "--json", HF_ENDPOINT="http://127.0.0.1:1").stdout)
    assert not planned["exact"]
    assert fails(project, "quantmill", "build", "small", code=2) == (
        "quantmill: recipes/small.lock: it is not resolved yet (base.commit, files); run 'quantmill lock "
        "recipes/small.toml' and commit the lock"
    )
    project.run("quantmill", "lock", "small")
    found = lock_of(project)
    assert "unresolved" not in found
    assert found["base"]["commit"] == hub.first
    assert found["about"]["license"] == "mit"
    assert found["about"]["language"] == ["en"]
    assert found["about"]["chat_template"].startswith("{%- for message in messages %}")
    project.run("quantmill", "build", "small", "--locked")
    assert "license: mit\n" in project.release()["README.md"].decode()
