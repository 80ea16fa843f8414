"""A record that a listed key signed is wrong: it is taken back, and stays so whatever the bucket's owner puts there."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from projects import Project
from quantmill.store.descent import records
from quantmill.store.key import canonical
from quantmill.store.remote.revocation import PAYLOAD_TYPE, Revocation, RevokedList, digest_of, unseal_list
from quantmill.store.remote.trust import PAYLOAD_TYPE as RECORD_TYPE
from quantmill.store.remote.trust import Refused, Signer
from s3_server import S3Server
from team import (
    AS_READER,
    AS_WRITER,
    OTHER,
    TASK,
    TWO_FILES,
    Team,
    outputs,
    payload,
    record,
    s3_url,
    second_key,
    shared,
    spoil,
)

Make = Callable[..., Project]


@pytest.fixture
def team(tmp_path: Path) -> Team:
    return Team(tmp_path, f"file://{tmp_path / 'shared'}")


@pytest.fixture
def writer(team: Team, make_project: Make) -> Project:
    """The machine that built and sent everything."""
    project = team.join(make_project("writer", TWO_FILES), sign=True)
    project.run("doit")
    return project


def lists(team: Team) -> list[Path]:
    return sorted((shared(team) / "revoked").iterdir())


def quants(project: Project) -> dict[str, str]:
    """The file of each quant step that the project's store knows, by the record's name."""
    found = records(project.folder / "cache")
    return {name: one["outputs"]["model.gguf"]["sha256"] for name, one in found if one["key"]["step"] == "quant"}


def test_a_record_that_another_listed_key_signed_is_taken_back(team: Team, writer: Project, make_project: Make) -> None:
    """A reader who has not asked yet computes it; one who has taken it forgets it. The right one of the key counts."""
    thief, listed, _ = second_key(team)
    reader = team.join(make_project("reader", TWO_FILES), keys=listed)
    right = outputs(record(team, TASK))["model.gguf"][0]
    wrong = spoil(team, thief)
    reader.run("doit", OTHER)
    reader.run("doit", TASK)
    assert quants(reader)[wrong.name] != right
    team.join(writer, sign=True, keys=listed)
    said = writer.run("quantmill", "cache", "revoke", wrong.name[:12], "--why", "a broken machine").stdout
    assert said.startswith(f"revoked: {TASK}, record {wrong.name[:16]}…: model.gguf ")
    assert not wrong.exists()
    assert quants(writer)[wrong.name] == right  # the other outputs of that key
    told = reader.run("doit").stdout
    assert f"{TASK} is revoked by the key 'team' (a broken machine); it is forgotten here" in told
    assert quants(reader)[wrong.name] == right
    assert reader.release() == writer.release()
    writer.run("quantmill", "cache", "push")
    late = team.join(make_project("late", TWO_FILES), keys=listed)
    assert late.ran("doit") == []
    assert late.release() == writer.release()


def test_a_revoked_record_that_is_put_back_is_a_miss(team: Team, writer: Project, make_project: Make) -> None:
    wrong = spoil(team)
    kept = wrong.read_bytes()
    writer.run("quantmill", "cache", "revoke", TASK)
    wrong.write_bytes(kept)
    reader = team.join(make_project("reader", TWO_FILES))
    told = reader.run("doit").stdout
    assert "its records are not believed where they are revoked by the key 'team'; those steps run here" in told
    assert reader.release() == writer.release()


def test_an_older_list_or_none_is_a_roll_back(team: Team, writer: Project, make_project: Make) -> None:
    first, second = spoil(team), spoil(team, task=OTHER, other=TASK)
    kept = {path: path.read_bytes() for path in (first, second)}
    reader = team.join(make_project("reader", TWO_FILES))
    writer.run("quantmill", "cache", "revoke", first.name)
    old = lists(team)[0].read_bytes()
    writer.run("quantmill", "cache", "revoke", second.name)
    reader.run("quantmill", "cache", "verify")
    for data, now in ((old, "number 1"), (None, "gone"), (b"{}", "not one that it signed")):
        shutil.rmtree(shared(team) / "revoked", ignore_errors=True)
        if data is not None:
            (shared(team) / "revoked").mkdir()
            (shared(team) / "revoked" / team.public.id).write_bytes(data)
        for path, wrong in kept.items():
            path.write_bytes(wrong)
        for name in ("build", "release", "cache/ac"):
            shutil.rmtree(reader.folder / name, ignore_errors=True)
        told = reader.run("doit").stdout
        expected = (
            f"its list of revoked records by the key 'team' is {now}, but was number 2 before; that one counts on"
        )
        assert told.count(expected) == 1
        assert reader.release() == writer.release()
    writer.run("quantmill", "cache", "sign")  # puts the newest back
    assert unseal_list(lists(team)[0].read_bytes(), team.public).serial == 3
    reader.run("quantmill", "cache", "verify")
    assert "counts on" not in reader.run("quantmill", "cache", "verify").stderr


def test_lists_of_two_keys_count_together_and_outlive_a_change_of_keys(
    team: Team, writer: Project, make_project: Make
) -> None:
    other, listed, path = second_key(team)
    first, second = spoil(team), spoil(team, task=OTHER, other=TASK)
    kept = {path: path.read_bytes() for path in (first, second)}
    team.join(writer, sign=True, keys=listed)
    writer.run("quantmill", "cache", "revoke", first.name)
    writer.run("quantmill", "cache", "revoke", second.name, QUANTMILL_SIGN=path)
    for wrong, data in kept.items():
        wrong.write_bytes(data)
    reader = team.join(make_project("reader", TWO_FILES), keys=listed)
    reader.run("doit")
    assert reader.release() == writer.release()
    writer.run("quantmill", "cache", "sign", QUANTMILL_SIGN=path)
    for wrong, data in kept.items():
        wrong.write_bytes(other.also(data))
    late = team.join(make_project("late", TWO_FILES), keys=listed[1:])
    late.run("doit")
    assert late.release() == writer.release()


def test_an_unaware_machine_does_not_send_it_again(team: Team, writer: Project, make_project: Make) -> None:
    """Its own wrong result is forgotten with the first look; if it computes the same again, that stays here."""
    wrong = record(team, TASK)
    other = team.join(make_project("other", TWO_FILES), sign=True)
    other.run("doit", QUANTMILL_STORE="")
    writer.run("quantmill", "cache", "revoke", TASK)
    other.run("quantmill", "cache", "verify")
    assert wrong.name not in quants(other)
    told = other.run("doit").stdout
    assert wrong.name in quants(other)
    assert f"{TASK} is not sent: what was computed here is revoked by the key 'team'" in told
    assert not wrong.exists()
    assert TASK not in other.run("quantmill", "cache", "push").stdout.replace(f"{TASK} is not sent", "")
    assert not wrong.exists()
    assert "nothing to do" in other.run("doit").stdout


def test_what_was_made_here_of_a_revoked_record_goes_too(team: Team, writer: Project) -> None:
    wrong = record(team, "convert:small")
    made = record(team, TASK)
    writer.run("quantmill", "cache", "revoke", wrong.name)
    assert not wrong.exists()
    assert not made.exists()  # which this machine had signed
    assert quants(writer) == {}
    assert {"convert:small", TASK, "release:small"} <= set(writer.ran("doit"))


def test_a_list_of_a_stranger_or_of_another_type_counts_for_nothing(
    team: Team, writer: Project, make_project: Make
) -> None:
    right = record(team, TASK)
    entry = Revocation(right.name, digest_of(outputs(right)), TASK, "", 5)
    found = RevokedList(team.url, 7, 5, (entry,))
    stranger, _, _ = second_key(team)
    ours = Signer(str(team.key), [team.public])
    forged = json.loads(found.sealed(stranger))
    forged["signatures"][0]["keyid"] = team.public.id
    good = found.sealed(ours)
    retyped = {**json.loads(good), "payloadType": "application/vnd.quantmill.record+json"}
    wrong_entry = RevokedList(team.url, 7, 5, (entry._replace(key="x"),)).sealed(ours)
    place = shared(team) / "revoked" / team.public.id
    place.parent.mkdir()
    for number, data in enumerate(
        (found.sealed(stranger), json.dumps(forged).encode(), json.dumps(retyped).encode(), wrong_entry, good[:-9], b"")
    ):
        with pytest.raises(Refused):
            unseal_list(data, team.public)
        place.write_bytes(data)
        reader = team.join(make_project(f"reader{number}", TWO_FILES))
        told = reader.run("doit", TASK).stdout
        assert "its list of revoked records by the key 'team' is not one that it signed, and counts for nothing" in told
        assert f"{TASK}: from {team.url}" in told
    place.write_bytes(good)
    assert f"{TASK}: from" not in team.join(make_project("reader", TWO_FILES)).run("doit", TASK).stdout
    assert json.loads(good)["payloadType"] == PAYLOAD_TYPE


def test_words_that_mean_no_record(team: Team, writer: Project, make_project: Make) -> None:
    for word, why in {
        "abc": "give a record's or an output's digest, its first 8 digits, or a task's name",
        "Q8_0": "give a record's or an output's digest, its first 8 digits, or a task's name",
        "0" * 64: f"no such record is believed at {team.url}, and none is here",
        "quant:small/Q9": f"no such record is believed at {team.url}",
    }.items():
        failed = writer.run("quantmill", "cache", "revoke", word, check=2)
        assert failed.stderr == f"quantmill: {word}: {why}\n"
    reader = team.join(make_project("reader", TWO_FILES))
    assert "this needs a signing key" in reader.run("quantmill", "cache", "revoke", TASK, check=2).stderr


def test_an_output_names_the_records_that_have_it(team: Team, writer: Project) -> None:
    sha256 = outputs(record(team, TASK))["model.gguf"][0]
    said = writer.run("quantmill", "cache", "revoke", f"{sha256[:16]}…").stdout
    assert sorted(line.split(",")[0] for line in said.splitlines() if line.startswith("revoked")) == [
        f"revoked: {TASK}",
        "revoked: split:small/Q8_0",
    ]


def test_a_bucket_takes_lists_as_a_folder_does(s3: S3Server, tmp_path: Path, make_project: Make) -> None:
    """Conditional writes, and a reader who may only read."""
    team = Team(tmp_path, s3_url(tmp_path.name), s3.endpoint)
    writer = team.join(make_project("writer", TWO_FILES), sign=True)
    writer.run("doit", **AS_WRITER)
    reader = team.join(make_project("reader", TWO_FILES))
    assert f"{TASK}: from {team.url}" in reader.run("doit", **AS_READER).stdout
    for task in (TASK, OTHER):
        writer.run("quantmill", "cache", "revoke", task, **AS_WRITER)
    told = reader.run("quantmill", "cache", "verify", **AS_READER).stderr
    assert told.count("is revoked by the key 'team'; it is forgotten here") == 2
    assert {TASK, OTHER} <= set(reader.ran("doit", **AS_READER))


def test_a_machine_that_is_wrong_itself_revokes_its_own_output(team: Team, writer: Project, make_project: Make) -> None:
    """What the shared store has of the same key stays."""
    project = differing(team, make_project)
    name, there = record(team, TASK).name, outputs(record(team, TASK))
    assert quants(project)[name] != there["model.gguf"][0]
    project.run("quantmill", "cache", "revoke", quants(project)[name])
    assert outputs(record(team, TASK)) == there
    assert name not in quants(project)


def test_what_is_too_old_is_a_miss_until_it_is_pushed_anew(team: Team, writer: Project, make_project: Make) -> None:
    signer = Signer(str(team.key), [team.public])
    for path in (shared(team) / "ac").iterdir():
        old = payload(path) | {"time": payload(path)["time"] - 40 * 86_400}
        path.write_bytes(signer.sign(canonical(old).encode(), RECORD_TYPE))
    before = team.join(make_project("before", TWO_FILES))
    assert before.ran("doit", TASK) == []
    team.join(before, max_age="30d")  # what was taken before counts no longer, too
    told = before.run("doit", TASK).stdout
    assert "its records are not believed where they are older than max_age of quantmill.toml" in told
    assert "its list of revoked records is not there: somebody may keep the store from changing" in told
    assert f"\n{TASK}: " in told
    assert f"{TASK}: from" not in told
    team.join(writer, sign=True, max_age="30d").run("quantmill", "cache", "push")
    after = team.join(make_project("after", TWO_FILES), max_age="30d")
    assert after.ran("doit", TASK) == []


def differing(team: Team, make_project: Make) -> Project:
    """A machine that computed otherwise than what the shared store has."""
    spoil(team)
    project = team.join(make_project("right", TWO_FILES), sign=True)
    project.run("doit", QUANTMILL_STORE="")
    return project


def test_push_fails_where_outputs_differ_and_replaces_them_when_told(
    team: Team, writer: Project, make_project: Make
) -> None:
    path, right = record(team, TASK), outputs(record(team, TASK))
    project = differing(team, make_project)
    wrong, kept = outputs(path), path.read_bytes()
    failed = project.run("quantmill", "cache", "push", check=1)
    theirs, ours = (found["model.gguf"][0][:16] for found in (wrong, right))
    assert failed.stderr == (
        f"quantmill: {team.url}: {TASK} has other outputs there than were computed here: model.gguf is {theirs}… there "
        f"and {ours}… here; find out which is right: `quantmill cache revoke {path.name[:16]}` takes theirs back, and "
        "`quantmill cache push --replace` puts this machine's results in its place\n"
    )
    assert outputs(path) == wrong
    project.run("quantmill", "cache", "push", "--replace")
    assert outputs(path) == right
    path.write_bytes(kept)  # the owner of the bucket puts the replaced one back
    reader = team.join(make_project("reader", TWO_FILES))
    assert "they are revoked by the key 'team' (replaced)" in reader.run("doit").stdout
    assert reader.release() == writer.release()


@pytest.mark.parametrize("command", [("doit",), ("quantmill", "build", "small")])
def test_a_build_whose_results_differ_fails_and_says_so(
    command: tuple[str, ...], team: Team, writer: Project, make_project: Make
) -> None:
    """What it computed is right here, and waits for somebody to decide."""
    project = differing(team, make_project)
    (project.folder / "cache" / "outbox").mkdir()
    (project.folder / "cache" / "outbox" / record(team, TASK).name).write_text(TASK)
    failed = project.run(*command, check=1)
    assert f"quantmill: {team.url}: {TASK} has other outputs there than were computed here" in failed.stderr
    assert "Traceback" not in failed.stderr
    project.run("quantmill", "cache", "revoke", record(team, TASK).name)
    project.run("quantmill", "cache", "push")
    assert "nothing to do" in project.run(*command).stdout
