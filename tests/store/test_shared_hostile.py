"""A shared store whose owner is hostile, or damaged, is no more than one that is not there."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from projects import RECIPE, Project
from quantmill.disk import AGE, is_sealed
from quantmill.store.descent import records
from quantmill.store.key import StepKey
from quantmill.store.remote.bucket import Bucket
from quantmill.store.remote.lease import Leases, Watched
from quantmill.store.remote.settings import Settings
from quantmill.store.remote.trust import PAYLOAD_TYPE, Signer, opened
from team import Team

ONE_FILE = RECIPE.replace('matrix = ["BF16", "Q8_0", "Q4_K_M", "Q2_K"]', 'matrix = ["Q8_0"]')
DEEP = b"[" * 200_000


@pytest.fixture
def folder_team(tmp_path: Path) -> Team:
    return Team(tmp_path, f"file://{tmp_path / 'shared'}")


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("ac", bytes(20 << 20)),
        ("ac", DEEP),
        ("ac", b"{}"),
        ("chunks", DEEP),
        ("chunks", bytes(8 << 20)),
        ("task", b"../../../etc/passwd"),
        ("task", bytes(4096)),
        ("lease", DEEP),
        ("cas", b""),
        ("cas", bytes(3 << 20)),
    ],
)
def test_a_reader_builds_the_same_beside_it(
    kind: str, data: bytes, folder_team: Team, make_project: Callable[..., Project], tmp_path: Path
) -> None:
    """Every object of a kind is replaced by something that nobody wrote."""
    first = folder_team.join(make_project("first", ONE_FILE), sign=True)
    first.run("doit")
    if kind == "lease":
        (tmp_path / "shared" / "lease").mkdir(exist_ok=True)
        for name in (first.folder / "cache" / "ac").iterdir():
            (tmp_path / "shared" / "lease" / name.name).write_bytes(data)
        shutil.rmtree(tmp_path / "shared" / "ac")
    for path in (tmp_path / "shared" / kind).rglob("*"):
        if path.is_file():
            path.write_bytes(data)
    second = folder_team.join(make_project("second", ONE_FILE), lease=0.5)
    said = second.run("doit")
    assert "Traceback" not in said.stdout + said.stderr
    assert second.release() == first.release()
    explained = second.run("quantmill", "explain", "small", check=None)
    assert "Traceback" not in explained.stderr


def test_a_lease_that_is_rewritten_without_counting_on_is_of_nobody(tmp_path: Path) -> None:
    bucket = Bucket(Settings(f"file://{tmp_path}"))
    leases = Leases(bucket, 0.3)
    bucket.put("lease/x", json.dumps({"owner": "a", "beat": 7}).encode())
    watched = leases.look("x")
    assert isinstance(watched, Watched)
    for beat in (7, 6, -1, 7):
        bucket.put("lease/x", json.dumps({"owner": "a", "beat": beat, "filler": time.time()}).encode())
        assert not watched.ended()
        time.sleep(0.1)
    assert watched.silent()
    bucket.put("lease/x", json.dumps({"owner": "a", "beat": 8}).encode())
    assert not watched.ended()
    assert not watched.silent()


@pytest.mark.parametrize(
    "data", [b"", DEEP, b"\xff", b"[]", b'{"owner": "a"}', b'{"owner": "a", "beat": true}', b"x" * 5000]
)
def test_what_is_no_lease_is_nobodys(data: bytes, tmp_path: Path) -> None:
    bucket = Bucket(Settings(f"file://{tmp_path}"))
    bucket.put("lease/x", data)
    watched = Leases(bucket, 1000).look("x")
    assert watched is not None
    assert watched.silent()
    assert not watched.ended()
    assert watched.silent()


def test_a_lease_is_not_waited_for_longer_than_any_step_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantmill.store.remote.lease.LONGEST", 0.2)
    bucket = Bucket(Settings(f"file://{tmp_path}"))
    bucket.put("lease/x", b'{"owner": "a", "beat": 1}')
    watched = Leases(bucket, 60).look("x")
    assert watched is not None
    time.sleep(0.3)
    bucket.put("lease/x", b'{"owner": "a", "beat": 2}')
    assert not watched.ended()
    assert watched.silent()


def test_our_keys_name_under_a_strangers_signature_is_not_our_signature(tmp_path: Path) -> None:
    team, stranger = Team(tmp_path, "file:///x"), Team(tmp_path / "other", "file:///x")
    key = StepKey("step", 1, 0, {}, {})
    ours = Signer(str(team.key), [team.public])
    sealed = Signer(str(stranger.key), [stranger.public]).seal(key, {"out": ("a" * 64, 1)}, "step:x")
    named = sealed.replace(stranger.public.id.encode(), team.public.id.encode())
    assert named != sealed
    assert not ours.signed(named)
    assert ours.signed(ours.also(named))
    assert opened(ours.also(named), PAYLOAD_TYPE, [team.public], time.time())[1] == team.public


def rotten_base(project: Project) -> str:
    """The name of the record of a file whose base rots after it was made; the seal stays."""
    store = project.folder / "cache"
    ((digest, record),) = [found for found in records(store) if found[1]["key"]["step"] == "quant"]
    base = record["key"]["inputs"]["model.gguf"]
    path = store / "cas" / base[:2] / base
    path.chmod(0o644)
    with open(path, "r+b") as file:
        file.seek(-100, 2)
        file.write(b"rotten")
    while not is_sealed(path.stat()):
        moment = path.stat().st_ctime_ns - AGE
        os.utime(path, ns=(moment, moment))
    return digest


def test_what_was_made_of_a_rotten_object_is_taken_back(
    folder_team: Team, make_project: Callable[..., Project], tmp_path: Path
) -> None:
    """A base rots, and files were made of it and sent: once it is found, the team has their records no more."""
    first = folder_team.join(make_project("first", ONE_FILE), sign=True)
    first.run("doit")
    digest = rotten_base(first)
    sent = tmp_path / "shared" / "ac" / digest
    assert sent.exists()
    first.run("quantmill", "cache", "verify", check=1)
    assert not sent.exists()
    assert not (first.folder / "cache" / "ac" / digest).exists()
    first.run("doit")
    assert sent.exists()


def test_what_is_to_be_taken_back_is_not_taken(
    folder_team: Team, make_project: Callable[..., Project], tmp_path: Path
) -> None:
    """What the build undoes here it does not fetch again from there."""
    first = folder_team.join(make_project("first", ONE_FILE), sign=True)
    first.run("doit")
    sent = tmp_path / "shared" / "ac" / rotten_base(first)
    before = sent.stat().st_ino, sent.stat().st_mtime_ns
    first.edit('["Q8_0"]', '["Q8_0", "Q4_0"]')
    assert {"quant:small/Q8_0", "index:small", "verify:small/Q8_0"} <= set(first.ran("doit"))
    assert not any((first.folder / "cache" / "withdrawn").iterdir())
    assert (sent.stat().st_ino, sent.stat().st_mtime_ns) != before


def test_a_build_that_finds_rot_sends_what_it_makes_in_the_place_of_what_it_sent(
    folder_team: Team, make_project: Callable[..., Project], tmp_path: Path
) -> None:
    """Also where the shared store cannot be reached just then: the next build takes the records back."""
    first = folder_team.join(make_project("first", ONE_FILE), sign=True)
    first.run("doit")
    sent = tmp_path / "shared" / "ac" / rotten_base(first)
    before = sent.stat().st_ino, sent.stat().st_mtime_ns
    first.edit('["Q8_0"]', '["Q8_0", "Q4_0"]')
    (tmp_path / "shared" / "ac").rename(tmp_path / "ac")
    (tmp_path / "shared" / "ac").write_text("no folder")
    assert "quant:small/Q8_0" in first.ran("doit")
    assert any((first.folder / "cache" / "withdrawn").iterdir())
    (tmp_path / "shared" / "ac").unlink()
    (tmp_path / "ac").rename(tmp_path / "shared" / "ac")
    first.run("doit")
    assert not any((first.folder / "cache" / "withdrawn").iterdir())
    assert (sent.stat().st_ino, sent.stat().st_mtime_ns) != before


def test_push_goes_on_past_what_is_damaged(
    folder_team: Team, make_project: Callable[..., Project], tmp_path: Path
) -> None:
    project = make_project("first", ONE_FILE)
    project.run("doit")
    folder_team.join(project, sign=True)
    ac = project.folder / "cache" / "ac"
    first, second, *rest = sorted(ac.iterdir())
    first.chmod(0o644)
    first.write_bytes(DEEP)
    gone = next(iter(json.loads(second.read_bytes())["outputs"].values()))["sha256"]
    (project.folder / "cache" / "cas" / gone[:2] / gone).unlink()
    done = project.run("quantmill", "cache", "push")
    assert "Traceback" not in done.stderr
    sent = {path.name for path in (tmp_path / "shared" / "ac").iterdir()}
    assert {first.name, second.name}.isdisjoint(sent)
    assert len(sent) >= len(rest) - 1  # another record may name the object that is gone
    assert f"{first.name[:16]}… is damaged" in done.stdout + done.stderr
    assert f"{second.name[:16]}… is not sent" in done.stdout + done.stderr
