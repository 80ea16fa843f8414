"""A file of the shared store that verify or a gate refuses is made here, once."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from projects import TINY, Project
from quantmill.store.descent import records
from quantmill.store.key import StepKey
from quantmill.store.remote.trust import Signer
from team import TASK, TWO_FILES, Team, payload, record, shared, spoil

Make = Callable[..., Project]
GATED = TWO_FILES + '\n[evaluation]\ntext = "tiny/evaluation.txt"\nchunks = 2\n\n[verify]\nmax_kld = 1.5\n'


@pytest.fixture
def team(tmp_path: Path) -> Team:
    return Team(tmp_path, f"file://{tmp_path / 'shared'}")


def build(team: Team, project: Project, **values: bool) -> Project:
    shutil.copy(TINY / "evaluation.txt", project.folder / "recipes" / "tiny" / "evaluation.txt")
    return team.join(project, **values)


def test_a_file_that_verify_refuses_is_made_here(team: Team, make_project: Make) -> None:
    writer = team.join(make_project("writer", TWO_FILES), sign=True)
    writer.run("doit")
    wrong = spoil(team)
    reader = team.join(make_project("reader", TWO_FILES))
    told = reader.run("doit").stdout
    assert f"{team.url} gave it, so that it is made here: {TASK}" in told
    assert reader.release() == writer.release()
    found = dict(records(reader.folder / "cache"))
    assert "origin" not in found[wrong.name]
    assert reader.ran("doit") == []
    shutil.rmtree(reader.folder / "build")  # and it is not taken from there again
    assert reader.ran("doit") == []
    assert reader.release() == writer.release()


def test_a_wrong_record_whose_object_is_gone_is_made_here(team: Team, make_project: Make) -> None:
    """What was read under the wrong record is read anew as it was made: within one build."""
    writer = team.join(make_project("writer", TWO_FILES), sign=True)
    writer.run("doit")
    spoil(team)
    for folder in ("cas", "chunks"):
        shutil.rmtree(shared(team) / folder)
    reader = team.join(make_project("reader", TWO_FILES))
    said = reader.run("doit").stdout
    assert "what split:small/Q8_0 reads was made again with other bytes: it is made anew" in said
    assert reader.release() == writer.release()
    assert reader.run("doit").stdout == "nothing to do: everything is up to date\n"


def test_a_base_that_its_own_verify_refuses_is_made_here(team: Team, make_project: Make) -> None:
    """It is of no ftype, and the file is the base itself."""
    text = TWO_FILES.replace('"Q8_0"', '"BF16", "Q8_0"')
    writer = team.join(make_project("writer", text), sign=True)
    writer.run("doit")
    wrong = record(team, "convert:small")
    base = payload(wrong)["outputs"]["model.gguf"]
    cut = (writer.folder / "cache" / "cas" / base["sha256"][:2] / base["sha256"]).read_bytes()[:-64]
    digest = _put(team, cut)
    signer = Signer(str(team.key), [team.public])
    wrong.write_bytes(
        signer.seal(StepKey(**payload(wrong)["key"]), {"model.gguf": (digest, len(cut))}, "convert:small")
    )
    reader = team.join(make_project("reader", text))
    reader.run("doit", "verify:small/BF16")
    reader.run("doit")
    assert reader.release() == writer.release()


def _put(team: Team, data: bytes) -> str:
    import hashlib

    digest = hashlib.sha256(data).hexdigest()
    (shared(team) / "cas" / digest).write_bytes(data)
    return digest


def test_a_writer_that_makes_another_file_fails_and_says_what_is_there(team: Team, make_project: Make) -> None:
    team.join(make_project("writer", TWO_FILES), sign=True).run("doit")
    spoil(team)
    other = team.join(make_project("other", TWO_FILES), sign=True)
    failed = other.run("doit", check=1)
    assert f"{TASK} has other outputs there than were computed here" in failed.stderr
    assert "0 failed" in failed.stdout


def test_a_gate_asks_again_once(team: Team, make_project: Make) -> None:
    writer = build(team, make_project("writer", GATED), sign=True)
    writer.run("doit")
    task = "quality:small/Q4_0"
    path = record(team, task)
    found = payload(path)
    text = (shared(team) / "cas" / found["outputs"]["quality.json"]["sha256"]).read_text()
    wrong = text.replace('"mean": ', '"mean": 9').encode()
    outputs = {"quality.json": (_put(team, wrong), len(wrong))}
    path.write_bytes(Signer(str(team.key), [team.public]).seal(StepKey(**found["key"]), outputs, task))
    for verify in (record(team, "verify:small/Q4_0"), record(team, "verify:small/Q8_0")):
        verify.unlink()
    reader = build(team, make_project("reader", GATED))
    told = reader.run("doit").stdout
    assert "its mean KL divergence to the base is 9" in told
    assert f"{team.url} gave it, so that it is made here: " in told
    assert task in told
    assert reader.release() == writer.release()


def test_what_is_wrong_here_too_fails(team: Team, make_project: Make) -> None:
    build(team, make_project("writer", GATED), sign=True).run("doit")
    reader = build(team, make_project("reader", GATED.replace("1.5", "0.000001")))
    failed = reader.run("doit", "verify:small/Q4_0", check=1)
    assert "and the recipe's max_kld is 1e-06" in failed.stderr
    assert failed.stdout.count("so that it is made here") == 1
    again = reader.run("doit", "verify:small/Q4_0", check=1)
    assert "so that it is made here" not in again.stdout
