"""What is believed of a shared store: nothing but records of accepted keys, for their own key, and bytes that hash."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from projects import Project
from quantmill.errors import UsageError
from quantmill.store.key import StepKey
from quantmill.store.remote.settings import PublicKey, find, format_public
from quantmill.store.remote.trust import Refused, Signer, new_key, unseal
from team import Team

KEY = StepKey("quant", 2, 1, {"ftype": "Q4_K_M"}, {"model.gguf": "a" * 64})
OTHER = StepKey("quant", 2, 1, {"ftype": "Q2_K"}, {"model.gguf": "a" * 64})
OUTPUTS = {"model.gguf": ("b" * 64, 5)}


def public_of(path: Path, **more: float) -> PublicKey:
    return PublicKey(path.name, new_key(path), **more)


@pytest.fixture
def ours(tmp_path: Path) -> PublicKey:
    return public_of(tmp_path / "ours")


@pytest.fixture
def sealed(tmp_path: Path, ours: PublicKey) -> bytes:
    return Signer(str(tmp_path / "ours"), [ours]).seal(KEY, OUTPUTS, "quant:x/Q4_K_M")


def test_a_record_of_an_accepted_key_is_believed(sealed: bytes, ours: PublicKey) -> None:
    payload, found = unseal(sealed, KEY.digest(), [ours], time.time())
    assert found.outputs == OUTPUTS
    assert payload["key"] == KEY.fields()
    assert payload["task"] == "quant:x/Q4_K_M"


def refusal(data: bytes, keys: list[PublicKey], digest: str = KEY.digest(), now: float | None = None) -> str:
    with pytest.raises(Refused) as caught:
        unseal(data, digest, keys, time.time() if now is None else now)
    return caught.value.why


def test_a_record_for_another_key_is_refused(sealed: bytes, ours: PublicKey) -> None:
    assert refusal(sealed, [ours], OTHER.digest()) == "they are of other keys than their places say"


def test_a_key_that_is_not_listed_is_refused(sealed: bytes, tmp_path: Path, ours: PublicKey) -> None:
    why = refusal(sealed, [public_of(tmp_path / "theirs")])
    assert why == f"they are signed by no key of quantmill.toml ({ours.id[:16]}…)"
    assert refusal(sealed, []) == why


def test_a_forger_who_names_our_key_is_refused(sealed: bytes, tmp_path: Path, ours: PublicKey) -> None:
    theirs = public_of(tmp_path / "theirs")
    forged = json.loads(Signer(str(tmp_path / "theirs"), [theirs]).seal(KEY, {"model.gguf": ("c" * 64, 5)}, "x"))
    forged["signatures"][0]["keyid"] = ours.id
    assert refusal(json.dumps(forged).encode(), [ours]) == "the signature by the key 'ours' is wrong"


def test_a_changed_payload_is_refused(sealed: bytes, tmp_path: Path, ours: PublicKey) -> None:
    other = Signer(str(tmp_path / "ours"), [ours]).seal(KEY, {"model.gguf": ("c" * 64, 5)}, "x")
    mixed = {**json.loads(sealed), "payload": json.loads(other)["payload"]}
    assert refusal(json.dumps(mixed).encode(), [ours]) == "the signature by the key 'ours' is wrong"


def test_unsigned_records_and_other_bytes_are_refused(sealed: bytes, ours: PublicKey) -> None:
    unsigned = {**json.loads(sealed), "signatures": []}
    assert refusal(json.dumps(unsigned).encode(), [ours]) == "they are not signed"
    for data in (b"", b"{}", b"[]", b'{"payload": 1}', b"\xff\xfe", sealed[:-9], b"[" * 100_000):
        assert refusal(data, [ours]) == "they are not what a DSSE signer writes"
    for odd in (1, None, 2.5, ["x"], {}):
        named = {**json.loads(sealed), "signatures": [{"keyid": odd, "sig": "00"}, {"keyid": "x", "sig": "00"}]}
        for found in ({**json.loads(sealed), "payloadType": odd}, named):
            assert refusal(json.dumps(found).encode(), [ours]) == "they are not what a DSSE signer writes"
    typed = {**json.loads(sealed), "payloadType": "text/plain"}
    assert refusal(json.dumps(typed).encode(), [ours]) == "they are of the type 'text/plain'"


def test_a_key_that_has_expired_is_refused(sealed: bytes, ours: PublicKey) -> None:
    expired = PublicKey("ours", ours.public, expires=time.time() - 1)
    assert refusal(sealed, [expired]) == "they are signed by the key 'ours', which has expired"
    assert unseal(sealed, KEY.digest(), [PublicKey("ours", ours.public, time.time() + 60)], time.time())


def test_a_record_from_the_future_is_refused(sealed: bytes, ours: PublicKey) -> None:
    assert refusal(sealed, [ours], now=time.time() - 2 * 86_400) == "their time is in the future"


@pytest.mark.parametrize("name", ["/etc/passwd", "../up", "a/../../b", "", "a\0b", "./a"])
def test_an_output_outside_its_folder_is_refused(name: str, tmp_path: Path, ours: PublicKey) -> None:
    sealed = Signer(str(tmp_path / "ours"), [ours]).seal(KEY, {name: ("b" * 64, 5)}, "x")
    assert refusal(sealed, [ours]) == "their content is not a record's"


@pytest.mark.parametrize("output", [("B" * 64, 5), ("b" * 63, 5), ("../" + "b" * 61, 5), ("b" * 64, -1)])
def test_an_output_that_is_no_digest_is_refused(output: tuple[str, int], tmp_path: Path, ours: PublicKey) -> None:
    sealed = Signer(str(tmp_path / "ours"), [ours]).seal(KEY, {"model.gguf": output}, "x")
    assert refusal(sealed, [ours]) == "their content is not a record's"


def test_a_signature_beside_another_is_believed_by_either(sealed: bytes, tmp_path: Path, ours: PublicKey) -> None:
    """How keys roll over."""
    new = public_of(tmp_path / "new")
    both = Signer(str(tmp_path / "new"), [new]).also(sealed)
    for keys in ([ours], [new], [ours, new]):
        assert unseal(both, KEY.digest(), keys, time.time())[1].outputs == OUTPUTS


def test_a_signing_key_that_nobody_accepts_is_refused_at_once(tmp_path: Path, ours: PublicKey) -> None:
    new_key(tmp_path / "mine")
    with pytest.raises(UsageError, match="is not among the keys of"):
        Signer(str(tmp_path / "mine"), [ours])


def test_a_signing_key_may_be_a_uri(tmp_path: Path, ours: PublicKey) -> None:
    other = public_of(tmp_path / "other")
    sealed = Signer(f"file2:{tmp_path / 'ours'}", [other, ours]).seal(KEY, OUTPUTS, "x")
    assert unseal(sealed, KEY.digest(), [ours], time.time())
    with pytest.raises(UsageError, match="is the public half of this signing key"):
        Signer(f"file2:{tmp_path / 'ours'}", [other])


def test_a_file_that_is_no_key(tmp_path: Path, ours: PublicKey) -> None:
    (tmp_path / "text").write_text("text")
    with pytest.raises(UsageError, match="this is no Ed25519 key without a password"):
        Signer(str(tmp_path / "text"), [ours])


def test_key_new(project: Project) -> None:
    printed = project.run("quantmill", "key", "new", "team.key", "--name", "ci").stdout
    assert (project.folder / "team.key").stat().st_mode & 0o777 == 0o600
    (project.folder / "quantmill.toml").write_text(f'[store]\nurl = "file:///x"\nsign = "team.key"\n{printed}')
    settings = find(project.folder)
    assert settings is not None
    assert settings.sign == str(project.folder / "team.key")
    assert Signer(settings.sign, settings.keys)
    again = project.run("quantmill", "key", "new", "team.key", check=2).stderr
    assert again == "quantmill: team.key: this file exists; a key is never written over\n"


PUBLIC = format_public(bytes(32))
QUERY = (
    "goes on with ? or #, which no store's address does; credentials belong in the environment, and in a path these "
    "are %3F and %23"
)
WRONG = {
    "[store]\nurl = 'ftp://x'": "'ftp://x' names no store; it begins with s3://, gs://, az://, file://",
    "[store]\nurl = 'https://u:secret@x/y?token=secret'": "'https://x/y' names no store; it begins with s3://, gs://, "
    "az://, file://",
    "[store]\nurl = 'az://u:secret@x/y?sig=secret'": f"'az://x/y' {QUERY}",
    "[store]\nurl = 'file:///what#1/store'": f"'file:///what' {QUERY}",
    "[store]\nurl = 5": "store.url: this must be a text in quotes",
    "[stor]": "there is no stor (did you mean store?)",
    "store = 1": "store: this must be a table; begin it with [store]",
    "[store]\nregoin = 'x'": "there is no store.regoin (did you mean region?)",
    f"[store]\nchunk = {'9' * 4301}": "Exceeds the limit (4300 digits) for integer string conversion: value has 4301 "
    "digits; use sys.set_int_max_str_digits() to increase the limit",
    f"[store]\nchunk = '{'9' * 400}'": "store.chunk: a size is below 2^63 bytes; write it like 50GB or 300MB",
    "[store]\nchunk = '0'": "store.chunk: this must be a size such as 256MiB",
    "[store]\nchunk = 'much'": "store.chunk: 'much' is not a size; write it like 50GB or 300MB",
    "[store]\nparallel = 0": "store.parallel: this must be a number from 1 to 256",
    "[store]\ntimeout = true": "store.timeout: this must be a number of seconds above 0",
    "[store]\nmax_age = 30": "store.max_age: this must be an age such as 30d or 12h, in quotes",
    "[store]\nmax_age = '0d'": "store.max_age: this must be an age such as 30d or 12h, in quotes",
    "[store]\nmax_age = 'long'": "store.max_age: 'long' is no age; write it like 30d or 12h",
    "[store]\nkey = 1": "store.key: this must be a list of tables; begin each with [[store.key]]",
    "[[store.key]]\nname = 'a'\npublic = 'x'": "store.key: 'x' is no public key; `quantmill key new` prints one, as "
    "ed25519:…",
    f"[[store.key]]\nname = 'a'\npublic = '{PUBLIC}'\nexpires = 'soon'": "store.key: a: expires must be a date such as "
    "2027-01-31, without quotes",
    "[[store.key]]\nnome = 'a'": "store.key: a key has no nome (did you mean name?)",
}


@pytest.mark.parametrize("text", WRONG, ids=lambda text: text[:60])
def test_settings_that_are_wrong_are_a_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / "quantmill.toml").write_text(text)
    (tmp_path / "below").mkdir()
    with pytest.raises(UsageError) as caught:
        find(tmp_path / "below", {})
    assert str(caught.value) == f"{tmp_path / 'quantmill.toml'}: {WRONG[text]}"


def test_the_environment_comes_before_the_file(tmp_path: Path) -> None:
    (tmp_path / "quantmill.toml").write_text("[store]\nurl = 's3://one/x'\nchunk = '1MiB'\n")
    settings = find(tmp_path, {"QUANTMILL_STORE": "s3://user:secret@two/y", "QUANTMILL_SIGN": "/key"})
    assert settings is not None
    assert (settings.address, settings.sign, settings.chunk) == ("s3://two/y", "/key", 1 << 20)
    assert find(tmp_path, {"QUANTMILL_STORE": ""}) is None
    assert find(tmp_path / "elsewhere", {}) == find(tmp_path, {})


def test_a_project_with_a_broken_file_says_so(project: Project) -> None:
    (project.folder / "quantmill.toml").write_text("[store")
    for command in (("doit",), ("quantmill", "build", "small"), ("doit", "list")):
        failed = project.run(*command, check=2)
        assert failed.stderr.startswith(f"quantmill: {project.folder}/quantmill.toml: Expected ']'")
        assert failed.stderr.count("\n") == 1


def test_a_key_that_is_struck_off_is_not_believed_any_more(
    tmp_path: Path, make_project: Callable[..., Project]
) -> None:
    """What was taken from the shared store while it was listed counts no longer, though it is here by now."""
    team = Team(tmp_path, f"file://{tmp_path}/shared")
    first, second = team.join(make_project("first"), sign=True), team.join(make_project("second"))
    first.run("doit")
    assert second.ran("doit") == []
    new = public_of(tmp_path / "new")
    team.join(second, keys=[{"name": "new", "public": format_public(new.public)}])
    assert "quant:small/Q2_K" in second.ran("doit")
    assert second.release() == first.release()
