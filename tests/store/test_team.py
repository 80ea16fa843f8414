"""Two colleagues and one shared store: a real S3 server, builds run as a person runs them."""

import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from projects import ALL_TASKS, RECIPE, Project
from quantmill.store.remote.settings import format_public
from quantmill.store.remote.trust import new_key
from s3_server import S3Server
from team import AS_READER, AS_WRITER, Team, s3_url

SMALL = RECIPE.replace('"BF16", "Q8_0", "Q4_K_M", "Q2_K"', '"Q8_0", "Q2_K"')


@pytest.fixture
def team(s3: S3Server, tmp_path: Path) -> Team:
    return Team(tmp_path, s3_url(tmp_path.name), s3.endpoint)


def from_store(output: str) -> list[str]:
    """The tasks that a build took from the shared store."""
    return sorted(line.split(": ")[0] for line in output.splitlines() if ": from s3://" in line)


def test_a_colleague_computes_nothing(team: Team, make_project: Callable[..., Project]) -> None:
    first, second = team.join(make_project("first"), sign=True), team.join(make_project("second"))
    first.run("doit", **AS_WRITER)
    done = second.run("doit", **AS_READER, QUANTMILL_ISA="no kernel runs")
    assert from_store(done.stdout) == ALL_TASKS
    assert second.release() == first.release()
    for project in (first, second):  # and nobody asks the network again
        nobody = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing"}
        assert project.run("doit", **nobody).stdout == "nothing to do: everything is up to date\n"


def test_a_no_op_knows_nothing_of_the_network(team: Team, project: Project) -> None:
    team.join(project, sign=True)
    project.run("doit", **AS_WRITER)
    code = "import sys; from quantmill import cli\ntry: cli.main(['build', 'small'])\nfinally: print([*sys.modules])"
    done = project.run("python", "-c", code)
    first, modules = done.stdout.split("\n", 1)
    assert first == "nothing to do: everything is up to date"
    assert not {"obstore", "securesystemslib", "cryptography", "quantmill.store.remote.bucket"} & set(eval(modules))


def test_a_reader_of_the_bucket_is_told_once_that_its_writes_are_refused(
    team: Team, make_project: Callable[..., Project]
) -> None:
    project, other = team.join(make_project("a", SMALL), sign=True), team.join(make_project("b", SMALL))
    done = project.run("doit", **AS_READER)
    assert done.stdout.count("access is refused (403 Forbidden, AccessDenied)") == 1
    assert " run, 0 from the store, 0 failed" in done.stdout.splitlines()[-1]
    assert from_store(other.run("doit", **AS_READER).stdout) == []
    assert other.release() == project.release()


def test_wrong_credentials_are_a_sentence_and_never_printed(team: Team, project: Project) -> None:
    team.join(project, sign=True)
    done = project.run("doit", AWS_ACCESS_KEY_ID="AKIDHIDDEN", AWS_SECRET_ACCESS_KEY="hidden-secret")
    told = [line for line in done.stdout.splitlines() if "s3://" in line]
    assert told == [
        f"  {team.url}: access is refused (403 Forbidden, InvalidAccessKeyId); the build goes on without it",
        f"  {team.url}: {len(ALL_TASKS)} results will be sent by the next build",
    ]
    assert "HIDDEN" not in done.stdout + done.stderr
    assert "hidden" not in done.stdout + done.stderr
    told = project.run("doit", **AS_WRITER).stdout.splitlines()
    assert told == [f"  {team.url}: sending {len(ALL_TASKS)} results", "nothing to do: everything is up to date"]
    assert project.run("doit").stdout == "nothing to do: everything is up to date\n"


def test_only_what_is_wanted_is_fetched(
    team: Team, make_project: Callable[..., Project], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file more in the matrix: the base is fetched for it. Without it, neither the base nor its weights are."""
    text = RECIPE.replace('"BF16", ', "").replace(', "Q4_K_M", "Q2_K"', "")
    first, second = (team.join(make_project(name, text), sign=name == "first") for name in ("first", "second"))
    first.run("doit", **AS_WRITER)
    second.run("doit", **AS_READER)
    assert second.release() == first.release()
    base = {pointer(second, "download")["model.safetensors"], pointer(second, "convert")["model.gguf"]}
    assert not base & objects(second)
    assert pointer(second, "convert") == pointer(first, "convert")
    second.edit('"Q8_0"', '"Q8_0", "Q2_K"')
    for name, value in AS_READER.items():
        monkeypatch.setenv(name, value)
    ran = second.ran("doit")
    assert "quant:small/Q2_K" in ran
    assert not {"convert:small", "quant:small/Q8_0"} & set(ran)
    assert base & objects(second) == {pointer(second, "convert")["model.gguf"]}


def test_clients_at_once_compute_each_step_once(team: Team, make_project: Callable[..., Project]) -> None:
    clients = [team.join(make_project(f"client{n}", SMALL), sign=True, lease=60) for n in range(4)]
    doit = str(Path(sys.executable).parent / "doit")
    running = [
        subprocess.Popen([doit], cwd=one.folder, env={**os.environ, **AS_WRITER}, stdout=subprocess.PIPE, text=True)
        for one in clients
    ]
    lines = [line for run in running for line in run.communicate()[0].splitlines() if not line.startswith("  ")]
    ran = Counter(line.split(": ")[0] for line in lines if ": from " not in line and " run, " not in line)
    assert ran.pop("the release is in release/small") == len(clients)
    assert set(ran.values()) == {1}
    assert "quant:small/Q2_K" in ran
    assert all(one.release() == clients[0].release() for one in clients)


def test_a_machine_that_dies_is_waited_for_no_longer_than_its_lease(team: Team, project: Project) -> None:
    team.join(project, sign=True, lease=1)
    killed = (
        "import os; from quantmill.steps.index import STEP\n"
        "object.__setattr__(STEP, 'run', lambda *a: os.kill(os.getpid(), 9))"
    )
    build = "from quantmill import cli; cli.main(['build', 'small'])"
    project.run("python", "-c", f"{killed}\n{build}", check=-9, **AS_WRITER)
    done = project.run("doit", **AS_WRITER)
    assert "the machine that was computing index:small is not heard of any more" in done.stdout
    assert "index:small" in [line.split(": ")[0] for line in done.stdout.splitlines()]


def test_a_push_and_a_fetch_that_are_killed_are_gone_on_with(team: Team, make_project: Callable[..., Project]) -> None:
    moments = random.Random(2026)
    first = team.join(make_project("first", SMALL), sign=True, lease=1)
    first.run("doit", QUANTMILL_STORE="")
    first.killed(moments, 4, "quantmill", "cache", "push", **AS_WRITER)
    first.run("quantmill", "cache", "push", **AS_WRITER)
    second = team.join(make_project("second", SMALL), lease=1)
    second.killed(moments, 4, "doit", **AS_READER)
    assert second.run("doit", **AS_READER).stdout.splitlines()[-1].startswith(("0 run, ", "nothing to do"))
    assert second.release() == first.release()
    assert " 0 damaged" in second.run("quantmill", "cache", "verify", **AS_READER).stdout


def test_what_was_built_before_is_pushed_and_signed_again(
    team: Team, make_project: Callable[..., Project], tmp_path: Path
) -> None:
    first, second = make_project("first", SMALL), make_project("second", SMALL)
    first.run("doit")
    for action in ("push", "sign"):
        team.join(first)
        assert "this needs a signing key" in first.run("quantmill", "cache", action, check=2).stderr
    team.join(first, sign=True)
    count = len(list((first.folder / "cache" / "ac").iterdir()))
    assert first.run("quantmill", "cache", "push", **AS_WRITER).stdout == f"{count} results are at the shared store\n"
    new = {"name": "new", "public": format_public(new_key(tmp_path / "new.key"))}
    old = {"name": "team", "public": format_public(team.public.public)}
    team.join(first, keys=[old, new])
    signed = first.run("quantmill", "cache", "sign", **AS_WRITER, QUANTMILL_SIGN=str(tmp_path / "new.key")).stdout
    assert signed == f"{count} records have this machine's signature now\n"
    team.join(second, keys=[new])
    assert second.run("doit", **AS_READER).stdout.splitlines()[-1].startswith(f"0 run, {count} from the store")


def test_explain_tells_what_differs_from_the_shared_store(team: Team, make_project: Callable[..., Project]) -> None:
    team.join(make_project("first", SMALL), sign=True).run("doit", **AS_WRITER)
    other = team.join(make_project("other", SMALL))
    told = other.run("quantmill", "explain", "quant:small/Q2_K", **AS_READER).stdout
    assert told == f"quant:small/Q2_K: hit: {team.url} has it\n"
    other.recipe.write_text(SMALL + '[[quants.override]]\nftypes = ["Q2_K"]\noutput = "Q4_0"\n')
    told = other.run("quantmill", "explain", "quant:small/Q2_K", **AS_READER).stdout
    assert told == f'quant:small/Q2_K: run: {team.url} has it but for output_tensor_type none → "Q4_0"\n'


def test_a_network_folder_is_a_shared_store(tmp_path: Path, make_project: Callable[..., Project]) -> None:
    team = Team(tmp_path, f"file://{tmp_path}/shared")
    first, second = team.join(make_project("first", SMALL), sign=True), team.join(make_project("second", SMALL))
    first.run("doit")
    assert second.run("doit").stdout.splitlines()[-1].startswith("0 run, ")
    assert second.release() == first.release()
    assert [path for path in (tmp_path / "shared" / "lease").rglob("*") if path.is_file()] == []


def pointer(project: Project, task: str) -> dict[str, str]:
    data = json.loads((project.folder / "build" / "small" / f"{task}.json").read_text())
    return {name: fact["sha256"] for name, fact in data.items()}


def objects(project: Project) -> set[str]:
    return {path.name for path in (project.folder / "cache" / "cas").rglob("*") if path.is_file()}
