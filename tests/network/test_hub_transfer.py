"""Bases on the Hub on their way here: resumed after kills and breaks, damaged, in caches, with tokens."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from hub_bases import README, Hub, tiny_files
from hub_bases import hub as hub  # fixtures, these two
from hub_bases import project as project
from hub_helpers import WEIGHTS, download_pointer, fails, ggufs, impatient, in_store, lock_of, part_of, wait_for
from projects import TINY, Project


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
        "import sys; from pathlib import Path; from quantmill.network import hub; hub.HTTP_LIMIT = 1 << 20; got = []\n"
        f"hub.fetch('acme/tiny', '{WEIGHTS}', '{commit}', Path(sys.argv[1]), {(TINY / WEIGHTS).stat().st_size}, "
        "got.append)\nprint(sum(got))"
    )
    done = project.run("python", "-c", script, str(tmp_path / "part"))
    assert int(done.stdout) == (TINY / WEIGHTS).stat().st_size
    assert (tmp_path / "part").read_bytes() == (TINY / WEIGHTS).read_bytes()


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
        "import os; from quantmill import cli; from quantmill.store.local import Store; adopt = Store.adopt\n"
        "def killed(self, path, remove=True):\n"
        "    if path.name == 'tokenizer.json': path.chmod(0o444); os.kill(os.getpid(), 9)\n"
        "    return adopt(self, path)\n"
        "Store.adopt = killed; cli.main(['build', 'small'])"
    )
    project.run("python", "-c", script, check=-signal.SIGKILL)
    assert hub.front.sent.pop(WEIGHTS) == (TINY / WEIGHTS).stat().st_size
    shutil.rmtree(os.environ["HF_HOME"])
    project.run("doit", "download:small")
    assert WEIGHTS not in hub.front.sent
    assert sorted(download_pointer(project)) == sorted(tiny_files())
