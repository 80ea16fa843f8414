"""Bases on the Hub, with the real client against a real server on loopback: locked, planned, built, chosen from."""

import hashlib
import json
import shutil
from collections.abc import Callable

from hub_bases import LOCAL, README, Hub, tiny_files
from hub_bases import hub as hub  # fixtures, these two
from hub_bases import project as project
from hub_helpers import WEIGHTS, fails, ggufs, lock_of
from hub_server import CLOSED
from projects import TINY, Project


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
