"""Headers that a file is large enough for and a model never needs: refused before they fill the memory."""

import struct
from pathlib import Path

import pytest

from disks import ending
from gguf_files import entry, raw, tensor
from quantmill import gguf

ARRAY, STRING, UINT8, UINT64 = 9, 8, 0, 10
END = "; the file is damaged or hostile, fetch it from elsewhere"


def sparse(path: Path, start: bytes, more: int) -> Path:
    """A file of `start` and zeros that take no room on the disk."""
    with path.open("wb") as file:
        file.write(start)
        file.truncate(len(start) + more)
    return path


def array(subtype: int, count: int, key: bytes = b"a") -> bytes:
    return entry(key, ARRAY, struct.pack("<iQ", subtype, count))


def alone(entries: list[bytes]) -> bytes:
    """A header without its padding."""
    return struct.pack("<4sIQQ", b"GGUF", 3, 0, len(entries)) + b"".join(entries)


@pytest.mark.parametrize(
    ("start", "more", "message"),
    [
        (
            alone([array(STRING, 30_000_000)]),
            240_000_000,
            "the items of arrays up to the key 'a' are 30000000, of which no model needs more than 4194304",
        ),
        (
            alone([array(UINT8, 2_000_000_000)]),
            2_000_000_000,
            "the bytes of the header are 2000000049, of which no model needs more than 268435456",
        ),
        (
            alone([entry(b"a", STRING, struct.pack("<Q", 2_000_000_000))]),
            2_000_000_000,
            "the bytes of the header are 2000000045, of which no model needs more than 268435456",
        ),
        (
            alone([array(STRING, 2) + struct.pack("<Q", 2_000_000_000)]),
            2_000_000_100,
            "the bytes of the header are 2000000057, of which no model needs more than 268435456",
        ),
        (
            struct.pack("<4sIQQQ", b"GGUF", 3, 0, 1, 2_000_000_000),
            2_000_000_100,
            "the bytes of the header are 2000000032, of which no model needs more than 268435456",
        ),
        (
            struct.pack("<4sIQQ", b"GGUF", 3, 0, 5_000_000),
            2_000_000_000,
            "the keys are 5000000, of which no model needs more than 65536",
        ),
        (
            struct.pack("<4sIQQ", b"GGUF", 3, 5_000_000, 0),
            2_000_000_000,
            "the tensors are 5000000, of which no model needs more than 262144",
        ),
    ],
    ids=["strings", "numbers", "string", "string of an array", "key", "keys", "tensors"],
)
def test_a_bomb_of_a_header(tmp_path: Path, start: bytes, more: int, message: str) -> None:
    path = sparse(tmp_path / "x.gguf", start, more)
    assert ending("quantmill.gguf", "read", path) == f"{path}: {message}{END}"


def test_arrays_are_counted_together(tmp_path: Path) -> None:
    halves = [array(UINT8, 3_000_000, key) + bytes(3_000_000) for key in (b"a", b"b")]
    path = tmp_path / "x.gguf"
    path.write_bytes(raw(halves))
    with pytest.raises(gguf.GGUFError, match=r"the items of arrays up to the key 'b' are 6000000, of which no model"):
        gguf.read(path)


def test_a_large_vocabulary_and_many_tensors_are_read(tmp_path: Path) -> None:
    texts = b"".join(struct.pack("<Q", 6) + b"%06d" % n for n in range(600_000))
    entries = [array(STRING, 600_000, key) + texts for key in (b"tokens", b"merges", b"more")]
    tensors = [tensor(b"t%d" % n, (8,), 0, 32 * n) for n in range(100_000)]
    path = tmp_path / "x.gguf"
    path.write_bytes(raw(entries, tensors, bytes(32 * 100_000)))
    with gguf.read(path) as file:
        assert len(file.tensors) == 100_000
        assert len(file.metadata["merges"]) == 600_000
