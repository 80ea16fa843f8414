"""The lists of large objects' chunks, which nobody signs: no larger than their object can need, and of one shape."""

import hashlib
import json
import random
import tracemalloc
from pathlib import Path

import pytest

from quantmill.store.remote.bucket import Bucket, Wrong
from quantmill.store.remote.settings import Settings
from quantmill.store.remote.transfer import LEAST, fetch, send

DATA = random.Random(6).randbytes(5 * LEAST + 17)
DIGEST = hashlib.sha256(DATA).hexdigest()
CHUNKS = [hashlib.sha256(DATA[at : at + LEAST]).hexdigest() for at in range(0, len(DATA), LEAST)]
GOOD = {"size": len(DATA), "chunk": LEAST, "chunks": CHUNKS}


def ignore(count: int) -> None:
    """Whom nobody tells how far it is."""


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    (tmp_path / "shared").mkdir()
    (tmp_path / "data").write_bytes(DATA)
    found = Bucket(Settings(f"file://{tmp_path}/shared"))
    send(found, tmp_path / "data", DIGEST, LEAST, 2, False, ignore)
    return found


def bombs() -> dict[str, bytes]:
    text = json.dumps(GOOD).encode()
    return {
        "deep": b"[" * 2000,
        "deep within": text.replace(b'"chunks": [', b'"chunks": [' + b"[" * 2000),
        "empty lists": b'{"size":1,"chunk":1,"chunks":[' + b"[]," * (4 << 20) + b"[]]}",
        "empty objects": b"[" + b"{}," * (4 << 20) + b"{}]",
        "numbers": b'{"size":1,"chunk":1,"chunks":[' + b"1," * (4 << 20) + b"1]}",
        "a long number": text.replace(b'"size": ', b'"size": ' + b"1" * 5000),
        "a long text": text[:-1] + b', "x": "' + b"x" * (32 << 20) + b'"}',
        "room": text + b" " * (32 << 20),
        "more chunks": json.dumps({**GOOD, "chunks": [*CHUNKS, CHUNKS[0]]}).encode(),
        "tiny chunks": json.dumps({"size": len(DATA), "chunk": 1, "chunks": CHUNKS}).encode(),
        "a size that is no whole number": json.dumps({**GOOD, "size": float(len(DATA))}).encode(),
        "a chunk that is no whole number": json.dumps({**GOOD, "chunk": float(LEAST)}).encode(),
        "a truth": json.dumps({**GOOD, "chunk": True}).encode(),
        "names that lead elsewhere": json.dumps({**GOOD, "chunks": ["../" + "a" * 61] * len(CHUNKS)}).encode(),
        "in capitals": json.dumps({**GOOD, "chunks": [chunk.upper() for chunk in CHUNKS]}).encode(),
        "a text for a list": json.dumps({**GOOD, "chunks": "a" * len(CHUNKS)}).encode(),
        "lines": json.dumps({**GOOD, "chunks": [chunk + "\n" for chunk in CHUNKS]}).encode(),
        "nothing": b"",
        "null": b"null",
    }


@pytest.mark.parametrize("kind", bombs())
def test_a_list_that_its_object_cannot_need_is_not_parsed(kind: str, bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "shared" / "chunks" / DIGEST).write_bytes(bombs()[kind])
    tracemalloc.start()
    try:
        with pytest.raises(Wrong):
            fetch(bucket, DIGEST, len(DATA), tmp_path / "part", LEAST, 2, ignore)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_list_of_chunks_of_any_size_is_read(bucket: Bucket, tmp_path: Path) -> None:
    for chunk in (LEAST + 1, 3 * LEAST, len(DATA), len(DATA) * 2):
        parts = [DATA[at : at + chunk] for at in range(0, len(DATA), chunk)]
        for part in parts:
            bucket.put(f"cas/{hashlib.sha256(part).hexdigest()}", part)
        listing = {"size": len(DATA), "chunk": chunk, "chunks": [hashlib.sha256(part).hexdigest() for part in parts]}
        bucket.put(f"chunks/{DIGEST}", json.dumps(listing, indent=1).encode())
        assert fetch(bucket, DIGEST, len(DATA), tmp_path / "part", LEAST, 2, ignore)
        assert (tmp_path / "part").read_bytes() == DATA
        (tmp_path / "part").unlink()


def test_chunks_are_never_smaller_than_readers_take(bucket: Bucket, tmp_path: Path) -> None:
    send(bucket, tmp_path / "data", DIGEST, 100, 2, True, ignore)
    assert json.loads(bucket.get(f"chunks/{DIGEST}", 1 << 20) or b"") == GOOD


@pytest.mark.parametrize("line", ["9" * 5000, "-1", "٣", "6", "", "0\n0"])
def test_a_journal_that_was_damaged_counts_for_nothing(line: str, bucket: Bucket, tmp_path: Path) -> None:
    journal = tmp_path / "part.done"
    bucket.delete(f"cas/{CHUNKS[2]}")
    with pytest.raises(Wrong):
        fetch(bucket, DIGEST, len(DATA), tmp_path / "part", LEAST, 1, ignore)
    journal.write_text(f"{journal.read_text()}{line}\n")
    bucket.put(f"cas/{CHUNKS[2]}", DATA[2 * LEAST : 3 * LEAST])
    assert fetch(bucket, DIGEST, len(DATA), tmp_path / "part", LEAST, 1, ignore)
    assert (tmp_path / "part").read_bytes() == DATA
