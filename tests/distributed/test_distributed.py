"""Builds on real Dask workers, processes on this machine: the same bytes, whatever dies."""

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from dask_cluster import BIN, Cluster, started
from projects import RECIPE, Project
from quantmill.build.graph import Node, graph
from quantmill.distributed.parts import cut
from quantmill.distributed.worker import Job, Seen
from quantmill.distributed.worker_pool import Pool, _Worker
from quantmill.errors import QuantmillError
from quantmill.forecast.base_file import describe
from quantmill.forecast.costs import shareable
from quantmill.forecast.files import file_of
from quantmill.recipe.lock import peek
from quantmill.recipe.recipe import load
from quantmill.steps import STEPS
from quantmill.store.local import sha256_file
from team import Team

ONE_FILE = RECIPE.replace('matrix = ["BF16", "Q8_0", "Q4_K_M", "Q2_K"]', 'matrix = ["Q8_0"]')
OUT_OF_SIGHT = """
import os
import sys
import threading
from pathlib import Path

from distributed import Client

from quantmill.build import doit_tasks
from quantmill.distributed.worker_pool import Pool
from quantmill.distributed.worker import Job
from quantmill.recipe.recipe import load


def lose():
    with pool._lock:
        pool._workers.clear()
        while not pool._workers:
            pool._look()


def step(begun):
    pool.run(Job(node, {node.name: node}, {}, (), str(root), str(space.store.root)), {}, {}, 1.0, begun)


root = Path.cwd()
space, _ = doit_tasks.workspace(root)
node = doit_tasks.nodes(load(Path("recipes/small.toml")), space)["download:small"]
with Client(sys.argv[1]) as client, Pool(client, root, space.store.root.absolute(), False) as pool:
    step(lose)
    second = threading.Thread(target=step, args=(lambda: None,), daemon=True)
    second.start()
    second.join(30)
    print("its second step waits" if second.is_alive() else "its second step ran", flush=True)
    os._exit(0)
"""
IN_PARTS = """
import sys
from pathlib import Path
from quantmill.distributed import parts
from quantmill.distributed.driver import Cluster, build

if __name__ == "__main__":
    parts.FILES_A_WORKER = 10**6  # every file is cut, however long this machine seems to take for a type just now
    cluster = Cluster(sys.argv[1], insecure=True)
    sys.exit(build(Path("recipes/small.toml"), Path.cwd(), [], False, cluster, parts_from=0))
"""


def at(cluster: Cluster) -> tuple[str, ...]:
    return "--scheduler", cluster.address, "--insecure"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with started(tmp_path / "cluster") as made:
        yield made


def test_a_release_made_by_workers_is_the_one_made_here(make_project: Callable[..., Project], cluster: Cluster) -> None:
    here = make_project("here")
    here.run("quantmill", "build", "small")
    cluster.start(), cluster.start()
    there = make_project("there")
    done = there.run("quantmill", "build", "small", "--engine", "dask", *at(cluster))
    assert "quant:small/Q2_K\n" in done.stdout
    assert there.release() == here.release()
    assert there.run("doit").stdout == "nothing to do: everything is up to date\n"
    # in parts: every quantized tensor is computed in a step of its own kind, and the files copy them
    apart = make_project("apart")
    (apart.folder / "build.py").write_text(IN_PARTS)
    apart.run("python", "build.py", cluster.address)
    assert apart.release() == here.release()
    records = [json.loads(path.read_bytes())["key"] for path in (apart.folder / "cache" / "ac").iterdir()]
    made = [key["params"]["types"] for key in records if key["step"] == "part"]
    types = {type_ for part in made for type_ in part.values()}
    assert {"Q4_K", "Q6_K"} <= types
    assert "Q2_K" in types or "Q3_K" in types
    assert {key["step"] for key in records} - {"part"} == {
        json.loads(path.read_bytes())["key"]["step"] for path in (here.folder / "cache" / "ac").iterdir()
    }


def test_workers_with_stores_of_their_own_meet_at_a_shared_one(
    make_project: Callable[..., Project], cluster: Cluster, tmp_path: Path
) -> None:
    here = make_project("here")
    here.run("quantmill", "build", "small")
    there = Team(tmp_path, f"file://{tmp_path}/shared").join(make_project("there"), sign=True)
    stores = [tmp_path / "first", tmp_path / "second"]
    for store in stores:
        cluster.start(QUANTMILL_CACHE=str(store))
    (there.folder / "build.py").write_text(IN_PARTS)
    there.run("python", "build.py", cluster.address)
    assert there.release() == here.release()
    for store in stores:
        steps = {json.loads(path.read_bytes())["key"]["step"] for path in (store / "ac").iterdir()}
        assert {"part", "quant"} & steps
        assert not list((store / "work").glob("*/*"))
    assert there.run("doit").stdout == "nothing to do: everything is up to date\n"


def test_what_the_driver_made_before_there_was_a_shared_store_reaches_the_workers(
    make_project: Callable[..., Project], cluster: Cluster, tmp_path: Path
) -> None:
    there = Team(tmp_path, f"file://{tmp_path}/shared").join(make_project("there", ONE_FILE), sign=True)
    there.run("doit", "convert:small", QUANTMILL_STORE="")
    cluster.start(QUANTMILL_CACHE=str(tmp_path / "first"))
    done = there.run("quantmill", "build", "small", "--engine", "dask", *at(cluster))
    assert done.stdout.startswith("index:small\n"), done.stdout
    assert "again" not in done.stdout
    steps = {json.loads(path.read_bytes())["key"]["step"] for path in (tmp_path / "first" / "ac").iterdir()}
    assert "quant" in steps
    assert not steps & {"convert", "download"}


@pytest.mark.parametrize("seen", [True, False])
def test_a_base_damaged_at_the_shared_store_is_sent_again(
    make_project: Callable[..., Project], cluster: Cluster, tmp_path: Path, seen: bool
) -> None:
    here, there = make_project("here", ONE_FILE), make_project("there", ONE_FILE)
    here.run("quantmill", "build", "small")
    team = Team(tmp_path, f"file://{tmp_path}/shared")
    first = team.join(make_project("first", ONE_FILE), sign=True, chunk="64MiB")
    first.run("doit", "download:small")
    pointer = json.loads((first.folder / "build" / "small" / "download.json").read_bytes())
    digest = pointer["model.safetensors"]["sha256"]
    damaged = tmp_path / "shared" / "cas" / digest
    with open(damaged, "r+b") as file:
        file.write(b"\0" * 64)
    if not seen:  # by the workers, which run in another folder
        base = there.folder / "recipes" / "tiny"
        base.rename(there.folder / "base")
        base.symlink_to("/proc/self/cwd/base")
    team.join(there, sign=True, chunk="64MiB")
    cluster.start(QUANTMILL_CACHE=str(tmp_path / "second"))
    done = there.run("quantmill", "build", "small", "--engine", "dask", *at(cluster))
    assert ("download:small is made again here" if seen else "download:small is sent again: ") in done.stdout
    assert there.release() == here.release()
    assert sha256_file(damaged) == digest


def test_a_worker_that_was_lost_from_sight_during_a_step_is_idle_after_it(project: Project, cluster: Cluster) -> None:
    (project.folder / "build.py").write_text(OUT_OF_SIGHT)
    cluster.start()
    assert project.run("python", "build.py", cluster.address).stdout == "its second step ran\n"


def test_a_killed_worker_costs_its_step(make_project: Callable[..., Project], cluster: Cluster) -> None:
    here = make_project("here")
    here.run("quantmill", "build", "small")
    project = make_project("killed")
    doomed, _ = cluster.start(), cluster.start()
    command = [str(BIN / "quantmill"), "build", "small", "--engine", "dask", *at(cluster)]
    with subprocess.Popen(
        command, cwd=project.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as run:
        assert run.stdout is not None
        for line in run.stdout:
            if line.startswith("quant:"):
                doomed.send_signal(signal.SIGKILL)
                break
        rest = run.stdout.read()
    assert run.returncode == 0, rest
    assert rest.splitlines()[-1].split(" in ")[0].endswith(", 0 failed")
    assert project.release() == here.release()


def test_a_step_that_fails_says_so_as_it_does_here(project: Project, cluster: Cluster) -> None:
    project.edit('matrix = ["BF16", "Q8_0", "Q4_K_M", "Q2_K"]', 'matrix = ["Q8_0"]')
    with open(project.folder / "recipes" / "tiny" / "model.safetensors", "r+b") as file:
        file.seek(-4096, 2)
        file.write(b"\xff\x7f" * 64)  # not a number, in bf16
    cluster.start()
    here = project.run("quantmill", "build", "small", check=None)
    there = project.run("quantmill", "build", "small", "--engine", "dask", *at(cluster), check=None)
    assert here.returncode == there.returncode == 1
    assert here.stderr == there.stderr
    assert there.stderr.startswith("quantmill: quant:small/Q8_0: ")


def test_workers_that_cannot_take_part_are_named(project: Project, cluster: Cluster, tmp_path: Path) -> None:
    command = ("quantmill", "build", "small", "--engine", "dask", *at(cluster))
    worker = cluster.start(QUANTMILL_CACHE=str(tmp_path / "elsewhere"))
    failed = project.run(*command, check=1)
    assert f"its store {tmp_path}/elsewhere is not this machine's {project.folder}/cache" in failed.stderr
    assert failed.stderr.count("\n") == 1
    worker.kill()
    cluster.start("--resources", "memory=1000")
    failed = project.run(*command, check=1)
    assert "of memory, and the largest worker has 1,000; start one with more\n" in failed.stderr


def test_a_step_that_no_one_worker_has_room_for_is_told(tmp_path: Path) -> None:
    seen = Seen("", {}, "", "", True)
    pool = Pool(Mock(**{"scheduler_info.return_value": {"workers": {"a": {}, "b": {}}}}), tmp_path, tmp_path, False)
    pool._workers = {
        "a": _Worker(seen, {"memory": 1e9, "disk": 1e12}),
        "b": _Worker(seen, {"memory": 64e9, "disk": 1e9}),
    }
    job = Job(Node("convert:a", STEPS["convert"], {}), {}, {}, (), "", "")
    with pytest.raises(QuantmillError) as error:
        pool.run(job, {}, {"memory": 8e9, "disk": 50e9}, 1.0, lambda: None)
    assert str(error.value) == (
        "convert:a: it needs 8,000,000,000 of memory and 50,000,000,000 of disk, "
        "and no one worker has that much of each; start one that has"
    )


def test_calls_that_make_no_sense(project: Project) -> None:
    plain = "whoever reaches a scheduler without TLS can run code on its workers; give one at tls://, with --tls-ca,"
    for options, message in (
        (("--workers", "2"), "--workers is an option of --engine dask; add that, or leave it out"),
        (("--engine", "dask", "--scheduler", "tcp://127.0.0.1:9", "--workers", "2"), "leave them out beside"),
        (
            ("--engine", "dask", "--scheduler", "nowhere://x", "--insecure"),
            "nowhere://x: there is no Dask scheduler that answers",
        ),
        (("--insecure",), "--insecure is an option of --engine dask; add that, or leave it out"),
        (("--engine", "dask", "--insecure"), "--insecure is for a cluster at --scheduler; name that, or leave it out"),
        (("--engine", "dask", "--tls-cert", "x"), "--tls-cert is for a cluster at --scheduler; name that, or leave it"),
        (
            ("--engine", "dask", "--scheduler", "tls://127.0.0.1:9", "--tls-ca", "x", "--insecure"),
            "--insecure is for a scheduler without TLS, and --tls-ca for one with it; leave one out",
        ),
        (("--engine", "dask", "--scheduler", "tcp://127.0.0.1:9"), f"tcp://127.0.0.1:9: {plain}"),
        (("--engine", "dask", "--scheduler", "tcp://127.0.0.1:9", "--tls-ca", "x"), f"tcp://127.0.0.1:9: {plain}"),
        (("--engine", "dask", "--scheduler", "ws://127.0.0.1:9"), f"ws://127.0.0.1:9: {plain}"),
        (("--engine", "dask", "--scheduler", "127.0.0.1:9"), f"127.0.0.1:9: {plain}"),
    ):
        failed = project.run("quantmill", "build", "small", *options, check=2)
        assert message in failed.stderr
        assert failed.stderr.count("\n") == 1
    plain = ("--engine", "dask", "--scheduler", "tcp://127.0.0.1:9", "--insecure")
    failed = project.run("quantmill", "build", "small", *plain, check=2, DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION="1")
    assert failed.stderr.startswith("quantmill: tcp://127.0.0.1:9: there is no Dask scheduler that answers: encryption")
    assert failed.stderr.count("\n") == 1


def test_parts_hold_what_files_share_once_and_no_file_is_too_long_alone(project: Project) -> None:
    project.edit("Q2_K", 'Q2_K", "Q3_K_M", "Q5_K_M", "Q4_K_S')
    recipe = load(project.recipe)
    lock = peek(recipe, sha256_file)
    quants = {name: node for name, node in graph(recipe, lock).items() if node.step.name == "quant"}
    base = describe(recipe, lock)
    for workers in (2, 7):
        whole = cut(quants, base, workers)
        held = [pair for part in whole.parts for pair in part.pairs]
        assert len(held) == len(set(held))
        files = [shareable(file_of(node, base)).keys() for node in quants.values()]
        shared = {pair for file in files for pair in file if sum(pair in other for other in files) > 1}
        assert shared <= set(held) <= set().union(*files)
        assert all(len({type_ for _, type_ in part.pairs}) == 1 for part in whole.parts)
        assert [part.urgency for part in whole.parts] == sorted((p.urgency for p in whole.parts), reverse=True)
        for part in whole.parts:
            waiting = [n for n, node in quants.items() if shareable(file_of(node, base)).keys() & part.pairs]
            assert part.urgency == part.seconds + max(whole.rest[name] for name in waiting)
    # one file alone is cut, or its worker would be left with it
    name, alone = next((n, node) for n, node in quants.items() if n.endswith("Q4_K_M"))
    whole = cut({name: alone}, base, 2)
    assert {pair for part in whole.parts for pair in part.pairs} == set(shareable(file_of(alone, base)))
    assert whole.rest == {name: 0.0}
