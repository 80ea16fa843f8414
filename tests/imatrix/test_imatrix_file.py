"""Importance matrix files: what is written is read, means are float32 quotients, and damage is named."""

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantmill import gguf, imatrix
from quantmill.gguf.types import TYPES
from quantmill.imatrix import Entry, Imatrix, ImatrixError, encode, entries, read


def legacy(**change: bytes) -> bytes:
    """A file of one entry in its parts, some of them replaced."""
    parts = {
        "count": struct.pack("<i", 1),
        "name": struct.pack("<i", 1) + b"a",
        "calls": struct.pack("<i", 3),
        "values": struct.pack("<iff", 2, 1.0, 2.0),
        "chunks": struct.pack("<i", 7),
        "dataset": struct.pack("<i", 4) + b"text",
    }
    return b"".join((parts | change).values())


def test_a_legacy_file(tmp_path: Path) -> None:
    path = tmp_path / "imatrix.dat"
    path.write_bytes(legacy())
    found = read(path)
    assert (found.dataset, found.chunks) == (b"text", 7)
    assert found.vectors["a"].tobytes() == (np.array([1, 2], np.float32) / np.float32(3)).tobytes()
    assert encode(*entries(path)) == legacy()


def test_a_file_without_trailer(tmp_path: Path) -> None:
    path = tmp_path / "imatrix.dat"
    path.write_bytes(legacy(chunks=b"", dataset=b""))
    assert (read(path).dataset, read(path).chunks) == (b"", 0)


def test_values_without_calls_stay(tmp_path: Path) -> None:
    path = tmp_path / "imatrix.dat"
    path.write_bytes(legacy(calls=struct.pack("<i", 0)))
    assert read(path).vectors["a"].tolist() == [1.0, 2.0]


def test_the_last_of_two_entries_counts(tmp_path: Path) -> None:
    path = tmp_path / "imatrix.dat"
    path.write_bytes(encode([Entry("a", 1, np.float32([1])), Entry("a", 1, np.float32([5, 6]))], b"", 1))
    assert read(path).vectors["a"].tolist() == [5.0, 6.0]


@pytest.mark.parametrize("length", range(len(legacy())))
def test_every_truncation_is_an_error_or_a_file_without_trailer(tmp_path: Path, length: int) -> None:
    path = tmp_path / "imatrix.dat"
    path.write_bytes(legacy()[:length])
    if length == len(legacy(chunks=b"", dataset=b"")):
        assert read(path).chunks == 0
    else:
        with pytest.raises(ImatrixError):
            read(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": struct.pack("<i", 0)}, "not an imatrix: it claims 0 entries in 37 bytes"),
        ({"count": struct.pack("<i", 2**31 - 1)}, "not an imatrix: it claims 2147483647 entries in 37 bytes"),
        ({"name": struct.pack("<i", -1) + b"a"}, "the name of entry 1 of 1 claims a length of -1"),
        ({"name": struct.pack("<i", 1) + b"\xff"}, "the name of entry 1 of 1 is not UTF-8"),
        ({"values": struct.pack("<i", 2**30)}, "entry 1 of 1 claims a length of 1073741824"),
        ({"values": struct.pack("<iff", 2, 1.0, np.nan)}, "the importance vector of a is not finite"),
        ({"dataset": struct.pack("<i", 9) + b"text"}, "the calibration file's name claims a length of 9"),
    ],
)
def test_damage_is_named(tmp_path: Path, change: dict[str, bytes], message: str) -> None:
    path = tmp_path / "imatrix.dat"
    path.write_bytes(legacy(**change))
    with pytest.raises(ImatrixError, match=message):
        read(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImatrixError, match="name an existing imatrix file"):
        read(tmp_path / "none.dat")


def test_selection() -> None:
    found = Imatrix({name: np.float32([1]) for name in ("blk.0.attn_v", "blk.0.ffn_up", "blk.1.attn_v")})
    assert list(found.select(exclude=["attn_v"]).vectors) == ["blk.0.ffn_up"]
    assert list(found.select(include=["blk.1", "ffn"]).vectors) == ["blk.0.ffn_up", "blk.1.attn_v"]
    assert list(found.select().vectors) == list(found.vectors)


def test_the_gguf_form(tmp_path: Path) -> None:
    path = tmp_path / "imatrix.gguf"
    kvs = [
        gguf.kv("general.type", "imatrix"),
        gguf.kv("imatrix.datasets", ["text"]),
        gguf.kv("imatrix.chunk_count", 7),
        gguf.kv("imatrix.chunk_size", 512),
    ]
    f32 = TYPES["F32"]
    with gguf.Writer(path, kvs, [("a.in_sum2", (2, 2), f32), ("a.counts", (1, 2), f32)]) as writer:
        writer.append(np.float32([3, 6, 9, 12]).data)
        writer.append(np.float32([3, 0]).data)
    found = read(path)
    assert found.vectors["a"].tolist() == [1.0, 2.0, 1.0, 1.0]  # an expert never reached weighs all columns alike
    assert (found.dataset, found.chunks) == (b"text", 7)


def test_a_model_is_no_imatrix(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    with gguf.Writer(path, [], [("a.weight", (1,), TYPES["F32"])]) as writer:
        writer.append(np.float32([3]).data)
    with pytest.raises(ImatrixError, match=r"holds a\.weight as F32, which no imatrix does"):
        read(path)


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_reader(data: bytes) -> None:
    try:
        found, dataset, chunks = imatrix.legacy.parse("fuzzed", data)
    except ImatrixError:
        return
    assert all(entry.values.size for entry in found)
    assert isinstance(dataset, bytes)
    assert chunks >= 0
