"""Statements of audits: what is in them, who signed, and that verify and choose tell them."""

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hub_bases import Hub
from hub_bases import hub as hub  # the fixture
from hub_bases import project as project  # the fixture
from hub_server import Repository
from projects import Project
from quantmill import gguf
from quantmill.cli import main
from quantmill.disk import sha256_file
from quantmill.store.remote.settings import format_public
from quantmill.store.remote.trust import new_key

pytest.importorskip("securesystemslib")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A command's exit code and what it prints, in a folder of its own at a fixed time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        shown = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        assert shown.err.count("\n") <= 1
        return ended.value.code, shown.out, shown.err

    return call


def key(folder: Path, name: str, sign: bool = True) -> str:
    """A key that signs from now on, and its public half."""
    path = folder / f"{name}.pem"
    public = format_public(new_key(path))
    signs = f'sign = "{path}"\n' if sign else ""
    (folder / "quantmill.toml").write_text(f'[store]\n{signs}[[store.key]]\nname = "{name}"\npublic = "{public}"\n')
    return public


@pytest.fixture
def release(toy: Any, tmp_path: Path) -> Path:
    """A stranger's folder: a file in shards, and another."""
    folder = tmp_path / "release"
    folder.mkdir()
    gguf.split(toy.quantized("Q4_K_M"), folder, "toy-Q4_K_M", max_tensors=12)
    shutil.copy(toy.quantized("Q8_0"), folder / "toy-Q8_0.gguf")
    return folder


def test_a_statement_says_what_was_held_against_what(run: Run, toy: Any, release: Path) -> None:
    audit = ("audit", release, "--base", toy.base, "--imatrix", toy.imatrix, "--json", release / "audit.json")
    code, out, _ = run(*audit)
    assert code == 0
    assert "audit.json and its statement audit.vsa.json\n" in out
    said = json.loads((release / "audit.vsa.json").read_text())
    assert (said["_type"], said["predicateType"]) == (
        "https://in-toto.io/Statement/v1",
        "https://slsa.dev/verification_summary/v1",
    )
    files = {path.name: sha256_file(path) for path in release.glob("*.gguf")}
    assert {subject["name"]: subject["digest"]["sha256"] for subject in said["subject"]} == files
    predicate = said["predicate"]
    assert predicate["verifier"]["id"] == "urn:quantmill:audit"
    assert predicate["timeVerified"] == "2023-11-14T22:13:20Z"
    assert predicate["resourceUri"] == "pkg:generic/release"
    assert predicate["policy"]["uri"] == "urn:quantmill:audit:v1"
    assert predicate["policy"]["annotations"]["base"] == [{"name": "base.gguf", "sha256": sha256_file(toy.base)}]
    assert predicate["inputAttestations"] == [
        {"name": "audit.json", "digest": {"sha256": sha256_file(release / "audit.json")}}
    ]
    assert (predicate["verificationResult"], predicate["verifiedLevels"]) == ("PASSED", ["QUANTMILL_SAME"])
    assert not (release / "audit.vsa.dsse.json").exists()
    before = (release / "audit.vsa.json").read_bytes()
    assert run(*audit, "--threads", "1")[0] == 0
    assert (release / "audit.vsa.json").read_bytes() == before
    assert str(release.parent) not in before.decode()


def test_each_file_has_its_own_word_and_a_sample_whole_digests(run: Run, toy: Any, release: Path) -> None:
    shutil.copy(type(toy)(release.parent / "m", seed=4).quantized("Q8_0"), release / "toy-Q8_0.gguf")
    record = release.parent / "x.json"
    assert run("audit", release, "--base", toy.base, "--json", record, "--sample", "10%")[0] == 1
    said = json.loads((release.parent / "x.vsa.json").read_text())
    words = {subject["name"]: subject["annotations"]["verdict"] for subject in said["subject"]}
    assert words.pop("toy-Q8_0.gguf") == "changed"
    assert set(words.values()) == {"within rounding"}
    assert said["predicate"]["verificationResult"] == "FAILED"
    assert said["predicate"]["verifiedLevels"] == ["FAILED"]
    assert said["predicate"]["policy"]["annotations"]["sample"] == {"share": 0.1, "seed": 0}
    assert said["subject"][-1]["digest"]["sha256"] == sha256_file(release / "toy-Q8_0.gguf")


def test_verify_tells_who_signed_what(run: Run, toy: Any, release: Path, tmp_path: Path) -> None:
    public = key(tmp_path, "carol")
    audit = ("audit", release, "--base", toy.base, "--imatrix", toy.imatrix, "--json", release / "audit.json")
    assert "its statement audit.vsa.dsse.json" in run(*audit)[1]
    line = "urn:quantmill:audit says PASSED (QUANTMILL_SAME) of 3 of 3 files [same], against base.gguf"
    code, out, _ = run("verify", release)
    assert (code, f"{line}; it is signed by the key 'carol' (" in out) == (0, True)
    (tmp_path / "quantmill.toml").unlink()
    assert f"{line}; it names the key " in run("verify", release)[1]
    assert f"{line}; it is signed by the key 'ed25519:" in run("verify", release, "--key", public)[1]
    [report] = json.loads(run("verify", release, "--json")[1])
    assert report["audits"][0]["result"] == "PASSED"
    (release / "audit.vsa.json").unlink()  # the envelope holds it
    assert line in run("verify", release)[1]
    (release / "toy-Q8_0.gguf").unlink()
    assert "of 2 of 2 files" in run("verify", release)[1]
    run(*audit)
    (release / "audit.vsa.dsse.json").unlink(missing_ok=True)
    assert "; it is not signed\n" in run("verify", release)[1]


def test_a_statement_that_is_wrong_is_told(run: Run, toy: Any, release: Path, tmp_path: Path) -> None:
    key(tmp_path, "carol")
    audit = ("audit", release, "--base", toy.base, "--imatrix", toy.imatrix, "--json", release / "audit.json")
    run(*audit)
    plain, sealed = release / "audit.vsa.json", release / "audit.vsa.dsse.json"
    good, envelope = plain.read_text(), json.loads(sealed.read_text())
    said = json.loads(good)

    def wrong(text: str | bytes, signed: Any = None) -> str:
        plain.write_bytes(text if isinstance(text, bytes) else text.encode())
        sealed.unlink(missing_ok=True)
        if signed is not None:
            sealed.write_text(json.dumps(signed))
        code, out, err = run("verify", release)
        assert code == 1
        assert "toy-Q8_0.gguf\n" in out
        return err

    forged = json.loads(good.replace("QUANTMILL_SAME", "QUANTMILL_OK"))
    payload = base64.b64encode(json.dumps(forged).encode()).decode()
    assert "signature by the key 'carol' is wrong" in wrong(json.dumps(forged), envelope | {"payload": payload})
    assert "it signs another statement than the one beside it" in wrong(good.replace("PASSED", "FAILED"), envelope)
    assert "no DSSE envelope with a signature" in wrong(good, {"payload": "x"})
    assert "no DSSE envelope with a signature" in wrong(good, [1])
    digest = said["subject"][0]["digest"]["sha256"]
    assert "another 'toy-Q4_K_M-00001-of-00002.gguf' than the one here" in wrong(good.replace(digest, "0" * 64))
    others = json.loads(good)
    others["subject"] = [{"name": "other.gguf", "digest": {"sha256": "1" * 64}}]
    assert "its digests are of none of the files here" in wrong(json.dumps(others))
    for odd in (
        b"\xff",
        b"[" * 100_000,
        b"{}",
        b'"x"',
        b" " * 2_000_000 + good.encode(),
        json.dumps(said | {"subject": []}).encode(),
        json.dumps(said | {"subject": said["subject"] * 1000}).encode(),
        json.dumps(said | {"subject": [{"name": "../x", "digest": {"sha256": "1" * 64}}]}).encode(),
        json.dumps(said | {"predicateType": "https://slsa.dev/provenance/v1"}).encode(),
        json.dumps(said | {"predicate": said["predicate"] | {"verifiedLevels": [7]}}).encode(),
        json.dumps(said | {"predicate": said["predicate"] | {"policy": {"annotations": {"base": [3]}}}}).encode(),
    ):
        assert "this is no statement of an audit" in wrong(odd)
    evil = json.dumps(said | {"predicate": said["predicate"] | {"verifier": {"id": "\x1b[2J\nx"}}})
    plain.write_text(evil)
    assert "\x1b" not in run("verify", release)[1]


def test_a_release_of_ours_shows_its_audits(make_project: Callable[..., Project]) -> None:
    project = make_project("ours")
    project.run("doit")
    folder = project.folder / "release" / "small"
    audit = ("quantmill", "audit", str(folder), "--base", str(project.folder / "recipes" / "tiny"))
    project.run(*audit, "--json", str(folder / "audit.json"))
    out = project.run("quantmill", "verify", str(folder)).stdout
    assert "audit.vsa.json: urn:quantmill:audit says PASSED" in out
    assert "of 4 of " in out
    assert project.run("doit").stdout.count("computed") == 0
    assert (folder / "audit.vsa.json").is_file()  # a build leaves what is not its own


def test_choose_says_what_is_beside_a_release_of_the_hub(
    hub: Hub, project: Project, make_project: Callable[..., Project], tmp_path: Path
) -> None:
    made = make_project("ours")
    made.run("doit")
    folder = made.folder / "release" / "small"
    made.run(
        *("quantmill", "audit", str(folder), "--base", str(made.folder / "recipes" / "tiny")),
        *("--json", str(folder / "audit.json")),
    )
    repository = Repository(hub.repository.folder.parent / "tiny-GGUF")
    names = ["audit.vsa.json", *(path.name for path in folder.glob("*.gguf"))]
    repository.commit({name: (folder / name).read_bytes() for name in names}, lambda name: name.endswith(".gguf"))
    bare = Repository(hub.repository.folder.parent / "bare-GGUF")
    bare.commit({name: (folder / name).read_bytes() for name in names[1:]}, lambda name: name.endswith(".gguf"))
    machine = ("--backend", "cuda", "--vram", "24GB", "--ram", "64GB")
    assert "no statement of an audit" in made.run("quantmill", "choose", "acme/bare-GGUF", *machine).stdout
    out = project.run("quantmill", "choose", "acme/tiny-GGUF", *machine).stdout
    assert "\naudit.vsa.json: urn:quantmill:audit says PASSED" in out
    said = (folder / "audit.vsa.json").read_text()
    digest = json.loads(said)["subject"][0]["digest"]["sha256"]
    repository.commit({"audit.vsa.json": said.replace(digest, "2" * 64).encode(), "b.vsa.dsse.json": b"\xff\x1b"})
    out = project.run("quantmill", "choose", "acme/tiny-GGUF", *machine).stdout
    assert "audit.vsa.json: its digests are of another " in out
    assert "b.vsa.dsse.json: this is no DSSE envelope" in out
