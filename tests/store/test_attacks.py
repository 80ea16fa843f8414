"""What the owner of a bucket, or a stranger who may write to it, can put there; and what a reader makes of each."""

import base64
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from quantmill.artifact import Artifact, silent
from quantmill.store.key import StepKey, canonical
from quantmill.store.remote.client import SharedStore
from quantmill.store.remote.revocation import Revocation, RevokedList, digest_of
from quantmill.store.remote.settings import PublicKey, Settings
from quantmill.store.remote.signature import PAYLOAD_TYPE as STATEMENT_TYPE
from quantmill.store.remote.trust import PAYLOAD_TYPE, Signer, new_key
from quantmill.store.shared import Gone

KEY = StepKey("quant", 2, 1, {"ftype": "Q4_K_M"}, {"model.gguf": "a" * 64})
OTHER = StepKey("quant", 2, 1, {"ftype": "Q2_K"}, {"model.gguf": "a" * 64})
DATA = bytes(range(256)) * 4096 + os.urandom(100)
SHA256, SIZE = hashlib.sha256(DATA).hexdigest(), len(DATA)
CHUNK = 64 << 10
TASK = "quant:x/Q4_K_M"
DAY = 86_400
RIGHT = {"model.gguf": (SHA256, SIZE)}
WRONG = {"model.gguf": ("b" * 64, 5)}


class Bucket:
    """A shared folder with a right record, who may sign there and who may not, and a reader."""

    def __init__(self, folder: Path) -> None:
        self.shared, self.root, self.told = folder / "shared", folder / "cache", list[str]()
        self.public = PublicKey("team", new_key(folder / "team.key"))
        self.second = PublicKey("second", new_key(folder / "second.key"))
        evil = PublicKey("evil", new_key(folder / "evil.key"))
        self.team = Signer(str(folder / "team.key"), [self.public])
        self.other = Signer(str(folder / "second.key"), [self.second])
        self.evil = Signer(str(folder / "evil.key"), [evil])
        self.record, self.foreign = (
            self.team.seal(KEY, RIGHT, TASK),
            self.team.seal(OTHER, WRONG, "quant:x/Q2_K"),
        )
        self.put(f"ac/{KEY.digest()}", self.record)
        self.put(f"ac/{OTHER.digest()}", self.foreign)

    def put(self, name: str, data: bytes) -> None:
        path = self.shared / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def spoil(self, data: bytes) -> None:
        self.put(f"ac/{KEY.digest()}", data)

    def reader(self, **values: Any) -> SharedStore:
        keys = values.pop("keys", (self.public, self.second))
        settings = Settings(f"file://{self.shared}", keys, chunk=CHUNK, retries=2, timeout=20, **values)
        return SharedStore(settings, self.root, lambda address, event, facts: self.told.append(facts.get("text", "")))

    def list(self, signer: Signer, serial: int, outputs: Mapping[str, tuple[str, int]] = RIGHT, **values: Any) -> bytes:
        entry = Revocation(KEY.digest(), digest_of(outputs), TASK, "", 1)
        found = RevokedList(f"file://{self.shared}", serial, int(time.time()), (entry,))
        return RevokedList(*{**vars(found), **values}.values()).sealed(signer)


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    return Bucket(tmp_path)


def changed(data: bytes, **values: Any) -> bytes:
    return json.dumps({**json.loads(data), **values}).encode()


def resealed(bucket: Bucket, age: float, outputs: Mapping[str, tuple[str, int]] = RIGHT) -> bytes:
    """A record that our key signed some time ago."""
    payload = json.loads(base64.b64decode(json.loads(bucket.team.seal(KEY, outputs, TASK))["payload"]))
    return bucket.team.sign(canonical(payload | {"time": int(time.time() - age)}).encode(), PAYLOAD_TYPE)


def named_ours(bucket: Bucket, data: bytes) -> bytes:
    """The signer's name exchanged for a listed one's."""
    found = json.loads(data)
    found["signatures"][0]["keyid"] = bucket.public.id
    return json.dumps(found).encode()


def forged(bucket: Bucket) -> bytes:
    return named_ours(bucket, bucket.evil.seal(KEY, WRONG, TASK))


NONE = "its records are not believed where {}; those steps run here"
NO_DSSE = NONE.format("they are not what a DSSE signer writes")
NOT_OURS = NONE.format("the signature by the key 'team' is wrong")
RECORDS: dict[str, tuple[Callable[[Bucket], bytes], str]] = {
    "another step's record": (lambda b: b.foreign, NONE.format("they are of other keys than their places say")),
    "an unlisted key": (lambda b: b.evil.seal(KEY, WRONG, TASK), "they are signed by no key of quantmill.toml"),
    "an unlisted key and no outputs": (lambda b: b.evil.seal(KEY, {}, TASK), "they are signed by no key of"),
    "an unlisted key that names a listed one": (forged, NOT_OURS),
    "a right signature over another payload": (
        lambda b: changed(b.record, payload=json.loads(b.evil.seal(KEY, WRONG, TASK))["payload"]),
        NOT_OURS,
    ),
    "the signature of another record": (
        lambda b: changed(b.record, signatures=json.loads(b.foreign)["signatures"]),
        NOT_OURS,
    ),
    "a payload that is signed as a release's statement": (
        lambda b: b.team.sign(base64.b64decode(json.loads(b.record)["payload"]), STATEMENT_TYPE),
        NONE.format("they are of the type 'application/vnd.in-toto+json'"),
    ),
    "a list of revoked records": (
        lambda b: b.list(b.team, 1),
        NONE.format("they are of the type 'application/vnd.quantmill.revoked+json'"),
    ),
    "a list of revoked records that says it is a record": (
        lambda b: changed(b.list(b.team, 1), payloadType=PAYLOAD_TYPE),
        NOT_OURS,
    ),
    "a statement of a release as a record": (
        lambda b: changed(b.team.sign(b"{}", STATEMENT_TYPE), payloadType=PAYLOAD_TYPE),
        NOT_OURS,
    ),
    "17 MiB": (lambda b: b.record + b" " * (17 << 20), NO_DSSE),
    "15 MiB of [": (lambda b: b"[" * (15 << 20), NO_DSSE),
    '15 MiB of {"a":': (lambda b: b'{"a":' * (3 << 20), NO_DSSE),
    "nothing signed": (lambda b: changed(b.record, signatures=[]), NONE.format("they are not signed")),
    "from the future": (lambda b: resealed(b, -3 * DAY, WRONG), NONE.format("their time is in the future")),
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_that_is_a_miss(name: str, bucket: Bucket) -> None:
    make, told = RECORDS[name]
    bucket.spoil(make(bucket))
    assert bucket.reader().find(KEY) is None
    (said,) = bucket.told
    assert told in said
    assert bucket.reader().find(KEY) is None
    bucket.spoil(bucket.record)
    found = bucket.reader().find(KEY)
    assert found is not None
    assert found.outputs == RIGHT


SIGNED_BESIDE: dict[str, Callable[[Bucket], list[dict[str, str]]]] = {
    "a stranger's": lambda b: json.loads(b.evil.seal(KEY, RIGHT, TASK))["signatures"],
    "80,000 of nobody": lambda b: [
        {"keyid": hashlib.sha256(b"%d" % n).hexdigest(), "sig": base64.b64encode(bytes(64)).decode()}
        for n in range(80_000)
    ],
    "a wrong one that names a listed key": lambda b: [
        {"keyid": b.second.id, "sig": base64.b64encode(bytes(64)).decode()}
    ],
}


@pytest.mark.parametrize("name", SIGNED_BESIDE)
def test_signatures_beside_a_right_one_do_no_more_than_a_miss(name: str, bucket: Bucket) -> None:
    right = json.loads(bucket.record)["signatures"]
    beside = SIGNED_BESIDE[name](bucket)
    for signatures in (right + beside, beside + right):
        bucket.spoil(changed(bucket.record, signatures=signatures))
        found = bucket.reader().find(KEY)
        assert found is None or found.outputs == RIGHT
    same = [{**right[0], "sig": base64.b64encode(bytes(64)).decode()}, *right]  # our name twice, the first wrong
    bucket.spoil(changed(bucket.record, signatures=same))
    found = bucket.reader().find(KEY)
    assert found is None or found.outputs == RIGHT


def test_keys_that_are_not_accepted_any_more(bucket: Bucket) -> None:
    found = bucket.reader().find(KEY)
    assert found is not None
    expired = PublicKey("team", bucket.public.public, time.time() - 1)
    for keys in ((), (bucket.second,), (expired,), (expired, bucket.second)):
        reader = bucket.reader(keys=keys)
        assert reader.find(KEY) is None
        assert not reader.vouches(found.origin)  # what was taken before, too
    assert bucket.reader().vouches(found.origin)


def test_a_replayed_record_counts_until_it_is_revoked_or_too_old(bucket: Bucket) -> None:
    bucket.spoil(resealed(bucket, 40 * DAY))
    found = bucket.reader().find(KEY)
    assert found is not None
    assert found.outputs == RIGHT
    young = bucket.reader(max_age=30.0 * DAY)
    assert not young.vouches(found.origin)
    assert young.find(KEY) is None
    assert NONE.format("they are older than max_age of quantmill.toml") in bucket.told
    assert not young.vouches({name: value for name, value in found.origin.items() if name != "time"})
    assert bucket.reader(max_age=50.0 * DAY).vouches(found.origin)
    assert bucket.reader(max_age=50.0 * DAY).find(KEY) is not None


LISTS: dict[str, Callable[[Bucket], bytes]] = {
    "a stranger's": lambda b: b.list(b.evil, 9),
    "a stranger's that names our key": lambda b: named_ours(b, b.list(b.evil, 9)),
    "of another listed key": lambda b: b.list(b.other, 9),
    "a record": lambda b: b.record,
    "a record that says it is a list": lambda b: changed(
        b.record, payloadType="application/vnd.quantmill.revoked+json"
    ),
    "a number that is none": lambda b: b.list(b.team, -1),
    "a number without bound": lambda b: b.list(b.team, 10**30),
    "from the future": lambda b: b.list(b.team, 9, time=int(time.time()) + 3 * DAY),
    "17 MiB": lambda b: b.list(b.team, 9) + b" " * (17 << 20),
    "15 MiB of [": lambda b: b"[" * (15 << 20),
    "empty": lambda b: b"",
}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_that_counts_for_nothing_and_displaces_none(name: str, bucket: Bucket) -> None:
    """A reader that knows of none takes the record; one that knows one keeps to it."""
    place = f"revoked/{bucket.public.id}"
    bucket.put(place, LISTS[name](bucket))
    assert bucket.reader().find(KEY) is not None
    assert any("is not one that it signed, and counts for nothing" in text for text in bucket.told)
    bucket.put(place, bucket.list(bucket.team, 3))
    assert bucket.reader().find(KEY) is None
    bucket.put(place, LISTS[name](bucket))
    bucket.told.clear()
    assert bucket.reader().find(KEY) is None
    assert any("is not one that it signed, but was number 3 before; that one counts on" in text for text in bucket.told)


def test_a_list_that_is_rolled_back_gone_or_of_another_store(bucket: Bucket) -> None:
    place = f"revoked/{bucket.public.id}"
    bucket.put(place, bucket.list(bucket.team, 4))
    assert bucket.reader().find(KEY) is None
    for data in (bucket.list(bucket.team, 3, WRONG), bucket.list(bucket.team, 4, WRONG), None):
        (bucket.shared / place).unlink()
        if data:
            bucket.put(place, data)
        assert bucket.reader().find(KEY) is None
    bucket.put(place, bucket.list(bucket.team, 5, WRONG, place="file:///elsewhere"))
    bucket.reader().find(KEY)
    assert any("is of another place, file:///elsewhere; name the store alike everywhere" in t for t in bucket.told)


def test_a_list_that_stands_still_is_told_of_where_age_counts(bucket: Bucket) -> None:
    limit = 30.0 * DAY
    bucket.reader(max_age=limit).refresh()
    assert any("its list of revoked records is not there: somebody may keep the store" in text for text in bucket.told)
    bucket.put(f"revoked/{bucket.public.id}", bucket.list(bucket.team, 1, WRONG, time=int(time.time()) - 40 * DAY))
    bucket.told.clear()
    bucket.reader(max_age=limit).refresh()
    assert any("is older than max_age (by the key 'team'): somebody may keep" in text for text in bucket.told)
    bucket.told.clear()
    bucket.reader().refresh()
    bucket.put(f"revoked/{bucket.public.id}", bucket.list(bucket.team, 2, WRONG))
    bucket.reader(max_age=limit).refresh()
    assert bucket.told == []


LISTING = {
    "size": SIZE,
    "chunk": CHUNK,
    "chunks": [hashlib.sha256(DATA[at : at + CHUNK]).hexdigest() for at in range(0, SIZE, CHUNK)],
}
FIRST = f"cas/{LISTING['chunks'][0]}"
LIST = f"chunks/{SHA256}"
FOUR = hashlib.sha256(bytes(4)).hexdigest()


def listing(**values: Any) -> bytes:
    return json.dumps({**LISTING, **values}).encode()


OBJECTS: dict[str, Mapping[str, bytes]] = {
    "a chunk of other bytes": {FIRST: os.urandom(CHUNK)},
    "a chunk of none": {FIRST: b""},
    "a chunk that is cut": {FIRST: DATA[: CHUNK - 1000]},
    "a chunk of 100 MB": {FIRST: bytes(100_000_000)},
    "chunks in another order": {LIST: listing(chunks=LISTING["chunks"][::-1])},
    "one chunk all along": {LIST: listing(chunks=LISTING["chunks"][:1] * len(LISTING["chunks"]))},
    "chunks of 4 bytes that are too long": {LIST: listing(chunk=4, chunks=LISTING["chunks"][:1] * -(-SIZE // 4))},
    "another size": {LIST: listing(size=SIZE + 1)},
    "a chunk's size that is no whole number": {LIST: listing(chunk=1e9)},
    "a chunk's size that is true": {LIST: listing(chunk=True)},
    "a chunk's size of 0": {LIST: listing(chunk=0)},
    "a chunk of 10^400 that is the object": {LIST: listing(chunk=10**400, chunks=[SHA256])},
    "names out of the folder": {LIST: listing(chunks=["../" * 20 + "a" * 4] * len(LISTING["chunks"]))},
    "chunks that are no text": {LIST: listing(chunks=[1] * len(LISTING["chunks"]))},
    "20 MiB of [": {LIST: b"[" * (20 << 20)},
    "3 MiB of empty lists": {LIST: b'{"chunks":[' + b"[]," * (1 << 20) + b"[]]}"},
    "a list of nothing": {LIST: b""},
}


def with_object(bucket: Bucket) -> Bucket:
    bucket.put(LIST, listing())
    for at in range(0, SIZE, CHUNK):
        bucket.put(f"cas/{hashlib.sha256(DATA[at : at + CHUNK]).hexdigest()}", DATA[at : at + CHUNK])
    return bucket


@pytest.mark.parametrize("name", OBJECTS)
def test_an_object_that_is_not_had(name: str, bucket: Bucket, tmp_path: Path) -> None:
    """Others are, and a later whole one, whatever is left of the wrong one."""
    part, artifact = tmp_path / "part" / "x", Artifact(tmp_path / "x", SHA256, SIZE)
    small = hashlib.sha256(b"small").hexdigest()
    with_object(bucket).put(f"cas/{small}", b"small")
    for path, data in OBJECTS[name].items():
        bucket.put(path, data)
    reader = bucket.reader()
    with pytest.raises(Gone, match="has it damaged"):
        reader.fetch(artifact, part, silent_bytes)
    reader.fetch(Artifact(tmp_path / "small", small, 5), tmp_path / "part" / "small", silent_bytes)
    assert (tmp_path / "part" / "small").read_bytes() == b"small"
    with_object(bucket).reader().fetch(artifact, part, silent_bytes)
    assert part.read_bytes() == DATA


def silent_bytes(count: int) -> None:
    silent(count, count)


def test_an_object_that_is_gone_or_beside_its_list(bucket: Bucket, tmp_path: Path) -> None:
    part, artifact = tmp_path / "part" / "x", Artifact(tmp_path / "x", SHA256, SIZE)
    with_object(bucket)
    bucket.put(f"cas/{SHA256}", os.urandom(SIZE))  # whole, and wrong: the list goes before it
    bucket.reader().fetch(artifact, part, silent_bytes)
    assert part.read_bytes() == DATA
    bucket.put(FIRST, DATA[:CHUNK] + bytes(1000))  # no more is taken of a chunk than was asked for
    part.unlink()
    bucket.reader().fetch(artifact, part, silent_bytes)
    assert part.read_bytes() == DATA
    (bucket.shared / LIST).unlink()
    with pytest.raises(Gone, match="has it damaged"):
        bucket.reader().fetch(artifact, part, silent_bytes)
    for path in (bucket.shared / "cas").iterdir():
        path.unlink()
    with pytest.raises(Gone, match="has it no more"):
        bucket.reader().fetch(artifact, part, silent_bytes)


HINTS = (b"../../../../etc/passwd", b"\x1b]0;x\x07\n\r", b"a" * 100_000, b"", bytes(64), b"\xff" * 64, b"0" * 64)


@pytest.mark.parametrize("data", HINTS, ids=range(len(HINTS)))
def test_a_hint_that_names_no_record(data: bytes, bucket: Bucket) -> None:
    bucket.put("task/quant/x/Q4_K_M", data)
    assert bucket.reader().latest(TASK) is None


def test_a_hint_of_another_task_names_no_other_than_a_signed_key(bucket: Bucket) -> None:
    bucket.put("task/quant/x/Q4_K_M", OTHER.digest().encode())
    assert bucket.reader().latest(TASK) == OTHER.fields()
