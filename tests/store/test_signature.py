"""The signature of a release's statement: right, by a wrong key, of a changed statement, or none."""

import base64
import io
import json
import shutil
from collections.abc import Callable
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from projects import RECIPE, ROOT, Project
from quantmill.cli import main
from quantmill.store.remote.settings import PublicKey, format_public
from quantmill.store.remote.trust import new_key

NAME, STATEMENT = "provenance.dsse.json", "provenance.json"


def key(folder: Path, name: str) -> PublicKey:
    return PublicKey(name, new_key(folder / f"{name}.key"))


def accept(project: Project, *keys: PublicKey) -> None:
    """Have the project believe these keys alone."""
    lines = [f'[[store.key]]\nname = "{key.name}"\npublic = "{format_public(key.public)}"\n' for key in keys]
    (project.folder / "quantmill.toml").write_text("".join(lines))


@pytest.fixture(scope="module")
def unsigned(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("signature"))
    shutil.copytree(ROOT / "recipes" / "tiny", project.folder / "recipes" / "tiny")
    project.recipe.write_text(RECIPE.replace('"Q8_0", "Q4_K_M", "Q2_K"', '"Q8_0"') + '\n[split]\nmax_size = "3MB"\n')
    project.run("quantmill", "build", "small")
    return project


@pytest.fixture
def copy(unsigned: Project, tmp_path: Path) -> Project:
    """The same project and store, with a release that is not signed."""
    shutil.copytree(unsigned.folder, tmp_path / "copy")
    return Project(tmp_path / "copy")


@pytest.fixture
def ours(tmp_path: Path) -> PublicKey:
    return key(tmp_path, "ours")


@pytest.fixture
def signed(copy: Project, ours: PublicKey, tmp_path: Path) -> Project:
    accept(copy, ours)
    copy.run("quantmill", "build", "small", QUANTMILL_SIGN=str(tmp_path / "ours.key"))
    return copy


def tree(project: Project) -> Path:
    return project.folder / "release" / "small"


def verify(project: Project, *more: str, check: int = 0) -> str:
    """The last line that the command prints: in this process, which has loaded already what it needs."""
    out, err = io.StringIO(), io.StringIO()
    with chdir(project.folder), redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main(["verify", "release/small", *more])
    assert (ended.value.code or 0) == check
    return (out if check == 0 else err).getvalue().splitlines()[-1]


def test_the_envelope_is_in_toto_s(signed: Project, ours: PublicKey) -> None:
    """Read by the specification alone, without the library that wrote it."""
    envelope = json.loads((tree(signed) / NAME).read_bytes())
    assert set(envelope) == {"payload", "payloadType", "signatures"}
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    payload = base64.b64decode(envelope["payload"], validate=True)
    assert payload == (tree(signed) / STATEMENT).read_bytes()
    (signature,) = envelope["signatures"]
    assert signature["keyid"] == ours.id
    message = b"DSSEv1 28 application/vnd.in-toto+json %d %s" % (len(payload), payload)
    public = Ed25519PublicKey.from_public_bytes(ours.public)
    public.verify(base64.b64decode(signature["sig"]), message)
    with pytest.raises(InvalidSignature):
        public.verify(base64.b64decode(signature["sig"]), message + b" ")


def test_a_signature_is_no_part_of_the_release(
    unsigned: Project, signed: Project, ours: PublicKey, tmp_path: Path
) -> None:
    files, first = signed.release(), (tree(signed) / NAME).read_bytes()
    assert files == unsigned.release()
    theirs = key(tmp_path, "theirs")
    accept(signed, theirs)
    who = str(tmp_path / "theirs.key")
    explained = signed.run("quantmill", "explain", "release:small", "small", QUANTMILL_SIGN=who).stdout
    assert explained == "release:small: hit: its signature is missing or wrong\n"
    signed.run("quantmill", "build", "small", QUANTMILL_SIGN=who)
    assert (tree(signed) / NAME).read_bytes() != first
    assert signed.release() == files
    nothing = "nothing to do: everything is up to date\n"
    assert signed.run("quantmill", "build", "small", QUANTMILL_SIGN=who).stdout == nothing
    assert signed.run("quantmill", "build", "small").stdout == nothing
    accept(signed, theirs, ours)
    assert signed.run("quantmill", "build", "small", QUANTMILL_SIGN=str(tmp_path / "ours.key")).stdout == nothing


def test_verify_and_reproduce_say_who_signed(signed: Project, ours: PublicKey, tmp_path: Path) -> None:
    said = f"release/small: it is signed by the key 'ours' ({ours.id[:16]}…)"
    assert verify(signed) == said
    assert signed.run("quantmill", "reproduce", "release/small").stdout.splitlines()[-1] == said
    (signed.folder / "quantmill.toml").unlink()
    named = f"it names the key {ours.id[:16]}… as its signer's; give that key in quantmill.toml or by --key to check it"
    assert verify(signed) == f"release/small: {named}"
    public = format_public(ours.public)
    assert verify(signed, "--key", public) == f"release/small: it is signed by the key '{public}' ({ours.id[:16]}…)"
    report = json.loads(signed.run("quantmill", "verify", "--json", "release/small", "--key", public).stdout)
    assert report[0]["signature"].startswith("it is signed by")
    listed = json.loads((tree(signed) / "release.json").read_bytes())["files"]
    shards = sum("-of-" in entry["name"] for entry in listed)
    assert len(report[0]["files"]) == len(listed) + 2 - shards + 2  # release.json, SHA256SUMS; two files in shards


def test_an_unsigned_release_is_as_good(copy: Project, ours: PublicKey) -> None:
    assert verify(copy) == "release/small: it is not signed"
    whole = copy.run("quantmill", "verify", "release/small").stdout.splitlines()
    assert whole[-2] == f"release/small: {len(whole) - 2} files, each as its provenance.json says"
    accept(copy, ours)
    assert verify(copy) == "release/small: it is not signed"
    assert copy.run("quantmill", "reproduce", "release/small").stdout.endswith("release/small: it is not signed\n")
    needed = verify(copy, "--key", format_public(ours.public), check=1)
    assert needed.startswith(f"quantmill: release/small/{NAME}: there is no such file, the release is not signed; ")


CURE = "; fetch it from those who signed the release, or remove it and sign your own build"


def change(path: Path, how: Callable[[dict[str, str | list[dict[str, str]]]], None]) -> None:
    data = json.loads(path.read_bytes())
    how(data)
    path.write_text(json.dumps(data))


def test_a_wrong_signature_is_one_sentence(signed: Project, ours: PublicKey, tmp_path: Path) -> None:
    path, where = tree(signed) / NAME, f"quantmill: release/small/{NAME}: "
    good = path.read_bytes()
    theirs = key(tmp_path, "theirs")
    stranger = f"{where}it is signed by no key of quantmill.toml ({ours.id[:16]}…){CURE}"
    assert verify(signed, "--key", format_public(theirs.public), check=1) == stranger
    accept(signed, theirs)
    assert verify(signed, check=1) == stranger
    assert signed.run("quantmill", "reproduce", "release/small", check=1).stderr == stranger + "\n"  # before any work
    accept(signed, ours)

    def sign_anew(data: dict[str, str | list[dict[str, str]]]) -> None:
        data["signatures"] = [{"keyid": ours.id, "sig": base64.b64encode(bytes(64)).decode()}]

    change(path, sign_anew)
    assert verify(signed, check=1) == f"{where}the signature by the key 'ours' is wrong{CURE}"
    path.write_bytes(good)
    statement = tree(signed) / STATEMENT
    whole = statement.read_bytes()
    statement.unlink()  # a link to the store's
    statement.write_bytes(whole.replace(b'"recipe": "small"', b'"recipe": "smalk"'))
    another = f"{where}it signs another statement than the {STATEMENT} beside it{CURE}"
    assert verify(signed, check=1) == another

    def as_the_statement(data: dict[str, str | list[dict[str, str]]]) -> None:
        data["payload"] = base64.b64encode(statement.read_bytes()).decode()

    change(path, as_the_statement)
    assert verify(signed, check=1) == f"{where}the signature by the key 'ours' is wrong{CURE}"
    statement.write_bytes(whole)
    deep = ("[" * 200_000, '{"signatures":' * 50_000, '{"payload": "", "signatures": [' + "[" * 50_000)
    for text in ("", "[]", "{", '{"signatures": []}', '{"signatures": 5, "payload": ""}', *deep):
        path.write_text(text)
        assert verify(signed, check=1) == f"{where}this is no DSSE envelope with a signature{CURE}"


def wrong(envelope: bytes) -> bytes:
    """The envelope as it is, but for the bits of the signature."""
    data = json.loads(envelope)
    data["signatures"][0]["sig"] = base64.b64encode(bytes(64)).decode()
    return json.dumps(data).encode()


@pytest.mark.parametrize("with_key", [True, False])
def test_a_build_heals_the_signature(signed: Project, tmp_path: Path, with_key: bool) -> None:
    """With the key, and without it from what the build keeps."""
    known = {"QUANTMILL_SIGN": str(tmp_path / "ours.key")} if with_key else {}
    path, kept = tree(signed) / NAME, signed.folder / "build" / "small" / "release.signed"
    good, nothing = path.read_bytes(), "nothing to do: everything is up to date\n"
    for damaged in (None, b"", good[:-9], wrong(good)):
        path.unlink()
        if damaged is not None:
            path.write_bytes(damaged)
        assert signed.ran("quantmill", "build", "small", **known) == []
        assert path.read_bytes() == good
    path.write_bytes(wrong(good))
    explained = signed.run("quantmill", "explain", "release:small", "small", **known).stdout
    assert explained == "release:small: hit: its signature is missing or wrong\n"
    signed.run("quantmill", "build", "small", **known)
    kept.unlink()
    assert signed.run("quantmill", "build", "small", **known).stdout == nothing
    assert kept.read_bytes() == good  # found right
    kept.unlink()
    path.write_bytes(wrong(good))
    signed.run("quantmill", "build", "small", **known)
    assert path.read_bytes() == (good if with_key else wrong(good))  # without either, verify says what is wrong
    path.write_bytes(good[:-9])
    kept.unlink(missing_ok=True)
    signed.run("quantmill", "build", "small", **known)
    assert path.exists() == with_key  # what is of no statement is removed


def test_a_file_that_the_statement_does_not_say(signed: Project) -> None:
    path = tree(signed) / "README.md"
    text = path.read_bytes()
    path.unlink()
    path.write_bytes(text + b" ")
    told = signed.run("quantmill", "verify", "release/small", check=1)
    assert "README.md: its sha256 is " in told.stderr
    assert "each as its" not in told.stdout
    path.unlink()
    assert "README.md: it is missing; fetch it" in signed.run("quantmill", "verify", "release/small", check=1).stderr
    (tree(signed) / "release.json").unlink()
    assert "it has no release.json that tells its files' digests" in verify(signed, check=2)


def test_another_release_is_not_under_the_old_signature(signed: Project, ours: PublicKey, tmp_path: Path) -> None:
    signed.edit('"Q8_0"', '"Q6_K"')
    signed.run("quantmill", "build", "small")
    assert not (tree(signed) / NAME).exists()
    signed.run("quantmill", "build", "small", QUANTMILL_SIGN=str(tmp_path / "ours.key"))
    assert "it is signed by the key 'ours'" in verify(signed)
    shutil.copy(ROOT / "dodo.py", signed.folder / "dodo.py")
    (signed.folder / "dodo.py").write_text((ROOT / "dodo.py").read_text().replace('"tiny"', '"small"'))
    signed.run("doit", "clean", "-a")
    assert not tree(signed).exists()


def test_a_key_that_nobody_accepts_signs_nothing(copy: Project, ours: PublicKey, tmp_path: Path) -> None:
    known = {"QUANTMILL_SIGN": str(tmp_path / "ours.key")}
    said = copy.run("quantmill", "build", "small", check=2, **known).stderr
    assert "is not among the keys of quantmill.toml, so nobody would believe what it signs" in said
    assert said.count("\n") == 1
    assert not (tree(copy) / NAME).exists()
    accept(copy, ours)
    assert copy.ran("quantmill", "build", "small") == []
