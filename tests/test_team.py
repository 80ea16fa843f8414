"""Two colleagues and one shared store: a real S3 server, builds run as a person runs them."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import RECIPE, Project
from s3_server import S3Server
from team import AS_READER, AS_WRITER, Team, s3_url
from test_build import ALL_TASKS


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server(tmp_path_factory.mktemp("s3"))
    yield server
    server.stop()


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
    assert not {"obstore", "securesystemslib", "cryptography", "quantmill.remote.bucket"} & set(eval(modules))


def test_a_reader_of_the_bucket_is_told_once_that_its_writes_are_refused(
    team: Team, make_project: Callable[..., Project]
) -> None:
    project, other = team.join(make_project("a"), sign=True), team.join(make_project("b"))
    done = project.run("doit", **AS_READER)
    assert done.stdout.count("access is refused (403 Forbidden, AccessDenied)") == 1
    assert done.stdout.splitlines()[-1].startswith(f"{len(ALL_TASKS)} run, 0 from the store, 0 failed")
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


def pointer(project: Project, task: str) -> dict[str, str]:
    data = json.loads((project.folder / "build" / "small" / f"{task}.json").read_text())
    return {name: fact["sha256"] for name, fact in data.items()}


def objects(project: Project) -> set[str]:
    return {path.name for path in (project.folder / "cache" / "cas").rglob("*") if path.is_file()}
