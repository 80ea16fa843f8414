"""Hostile GGUF files, one for every error, and what people save as a model."""

import pickle
import struct
from pathlib import Path

import pytest

from gguf_files import entry, raw, tensor, text
from quantmill import gguf

BE = b"GGUF" + struct.pack(">IQQ", 3, 0, 0)
U32, STRING, ARRAY = 4, 8, 9
T = b"a"
ROOM = bytes(64)


def array(subtype: int, count: int, data: bytes = b"") -> bytes:
    return struct.pack("<iQ", subtype, count) + data


def alignment(value: int) -> bytes:
    return entry(b"general.alignment", U32, struct.pack("<I", value))


HOSTILE: list[tuple[str, bytes, str]] = [
    (
        "version 1",
        raw(version=1),
        "GGUF version 1 is not supported; versions 2 and 3 are, convert the model anew",
    ),
    (
        "big-endian",
        BE,
        "a big-endian GGUF file; only little-endian ones are supported, convert it to one first",
    ),
    (
        "magic alone",
        b"GGUF",
        "ends after 4 bytes, inside the version; it was cut short, fetch it again",
    ),
    (
        "tensor count",
        raw(n_tensors=2**63, data=ROOM),
        "the number of tensors claims 9223372036854775808, more than a file of 96 bytes can hold; "
        "it is damaged or was cut short, fetch it again",
    ),
    (
        "key count",
        raw(n_entries=5, data=ROOM[:20]),
        "the number of keys claims 5, more than a file of 52 bytes can hold; "
        "it is damaged or was cut short, fetch it again",
    ),
    (
        "key length",
        raw([struct.pack("<Q", 2**64 - 1) + ROOM]),
        "the length of key 1 of 1 claims 18446744073709551615, more than a file of 96 bytes can hold; "
        "it is damaged or was cut short, fetch it again",
    ),
    (
        "empty key",
        raw([entry(b"", U32, b"\1\0\0\0")]),
        "key 1 of 1 is empty or contains a NUL byte; no key may",
    ),
    (
        "key not text",
        raw([entry(b"\xff\xfe", U32, b"\1\0\0\0")]),
        "key 1 of 1 is not UTF-8; GGUF allows no other text, make the file anew",
    ),
    (
        "key twice",
        raw([entry(b"k", U32, b"\1\0\0\0")] * 2),
        "the key 'k' is there twice; every key may be there once",
    ),
    (
        "value type",
        raw([entry(b"k", 13, ROOM)]),
        "the key 'k' has the unknown value type 13; GGUF has types 0 to 12",
    ),
    (
        "negative value type",
        raw([entry(b"k", ARRAY, array(-1, 0)), ROOM]),
        "the key 'k' has the unknown value type -1; GGUF has types 0 to 12",
    ),
    (
        "nested array",
        raw([entry(b"k", ARRAY, array(ARRAY, 1, ROOM))]),
        "the key 'k' is an array of arrays; llama.cpp reads flat arrays only",
    ),
    (
        "array count",
        raw([entry(b"k", ARRAY, array(U32, 2**62, ROOM))]),
        "the array of the key 'k' claims 4611686018427387904, more than a file of 128 bytes can hold; "
        "it is damaged or was cut short, fetch it again",
    ),
    (
        "string of an array",
        raw([entry(b"k", ARRAY, array(STRING, 1, struct.pack("<Q", 2**40)))]),
        "the length of a string of the key 'k' claims 1099511627776, more than a file of 64 bytes can hold; "
        "it is damaged or was cut short, fetch it again",
    ),
    (
        "string not text",
        raw([entry(b"k", STRING, text(b"\xc3"))]),
        "the string of the key 'k' is not UTF-8; GGUF allows no other text, make the file anew",
    ),
    (
        "strings not text",
        raw([entry(b"k", ARRAY, array(STRING, 1, text(b"\xc3")))]),
        "a string of the key 'k' is not UTF-8; GGUF allows no other text, make the file anew",
    ),
    (
        "alignment 0",
        raw([alignment(0)]),
        "general.alignment is 0; it must be a power of two stored as UINT32",
    ),
    (
        "alignment 48",
        raw([alignment(48)]),
        "general.alignment is 48; it must be a power of two stored as UINT32",
    ),
    (
        "alignment's type",
        raw([entry(b"general.alignment", STRING, text(b"32"))]),
        "general.alignment is of type STRING; it must be a power of two stored as UINT32",
    ),
    (
        "long tensor name",
        raw([], [tensor(b"n" * 64)], ROOM),
        "a tensor's name of 64 bytes is too long; ggml keeps 63 bytes",
    ),
    (
        "NUL in a tensor's name",
        raw([], [tensor(b"a\0b")], ROOM),
        "a tensor's name contains a NUL byte; no name may",
    ),
    (
        "tensor twice",
        raw([], [tensor(T), tensor(T)], ROOM),
        "the tensor 'a' is there twice; every tensor may be there once",
    ),
    (
        "dimensions",
        raw([], [tensor(T, (1, 1, 1, 1, 1))], ROOM),
        "the tensor 'a' has 5 dimensions; at most 4 are allowed",
    ),
    (
        "dimension 0",
        raw([], [tensor(T, (8, 0))], ROOM),
        "the tensor 'a' has the shape [8, 0]; every dimension must be at least 1",
    ),
    (
        "negative dimension",
        raw([], [tensor(T, (-1,))], ROOM),
        "the tensor 'a' has the shape [-1]; every dimension must be at least 1",
    ),
    (
        "product overflow",
        raw([], [tensor(T, (2**32, 2**32))], ROOM),
        "the tensor 'a' has the shape [4294967296, 4294967296]; that is more weights than 63 bits can count",
    ),
    (
        "tensor type",
        raw([], [tensor(T, type_=99)], ROOM),
        "the tensor 'a' has the unknown type 99; "
        "the file is damaged, or its type is newer than this version or was withdrawn from ggml",
    ),
    (
        "partial block",
        raw([], [tensor(T, (100,), 12)], ROOM),
        "the tensor 'a' has rows of 100 weights; Q4_K needs a multiple of 256",
    ),
    (
        "misaligned",
        raw([], [tensor(T, offset=8)], ROOM),
        "the tensor 'a' is at offset 8; offsets must be multiples of 32",
    ),
    (
        "overlap",
        raw([], [tensor(T, (16,)), tensor(b"b", offset=32)], ROOM),
        "the tensors 'a' and 'b' overlap; each must begin where the one before it ends",
    ),
    (
        "gap",
        raw([], [tensor(T), tensor(b"b", offset=64)], ROOM * 2),
        "the tensor 'b' is at offset 64; the one before it ends at 32 and llama.cpp allows no gap",
    ),
    (
        "gap before the first",
        raw([], [tensor(T, offset=32)], ROOM),
        "the tensor 'a' is at offset 32; the one before it ends at 0 and llama.cpp allows no gap",
    ),
    (
        "data cut short",
        raw([], [tensor(T, (64,))], ROOM),
        "192 bytes are missing (128 of 320 are there); it was cut short, fetch it again",
    ),
    (
        "offset beyond 63 bits",
        raw([], [tensor(T, offset=2**64 - 32)], ROOM),
        "the tensor 'a' is at offset 18446744073709551584; the one before it ends at 0 and llama.cpp allows no gap",
    ),
    (
        "description cut short",
        raw([], [tensor(b"abcdefgh")])[:50],
        "ends after 50 bytes, inside the description of the tensor 'abcdefgh'; it was cut short, fetch it again",
    ),
    (
        "value cut short",
        raw([entry(b"key", 12, b"\1\0\0\0\0\0\0\0")])[:41],
        "ends after 41 bytes, inside the key 'key'; it was cut short, fetch it again",
    ),
]

NO_MODEL: list[tuple[bytes, str]] = [
    (b"", "an empty file; fetch it again"),
    (
        b"<!DOCTYPE html><html>",
        "a web page; fetch the file itself, not the page that shows it (on the Hub: /resolve/, not /blob/)",
    ),
    (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        "a git-lfs pointer; fetch the file itself with `git lfs pull` or `hf download`",
    ),
    (
        b"PK\x03\x04....",
        "a zip archive or PyTorch pickle; pickles are never opened, use the model's safetensors",
    ),
    (pickle.dumps([1], protocol=2), "a pickle; pickles are never opened, use the model's safetensors"),
    (b"\x02\0\0\0\0\0\0\0{}", "a safetensors file; convert it first"),
    (b'{"error":"Invalid username"}', "JSON text, perhaps a server's error message; read it and fetch the model again"),
    (b"tjgg\3\0\0\0", "a model in the GGJT format that llama.cpp dropped in 2023; convert the model anew"),
    (bytes(4096), "zeros, as an unfinished download leaves them; fetch it again"),
    (b"# a readme", "something that begins with b'# a read'; a GGUF file begins with b'GGUF'"),
]


@pytest.mark.parametrize(("data", "message"), [row[1:] for row in HOSTILE], ids=[row[0] for row in HOSTILE])
def test_a_hostile_file_is_refused_with_one_sentence(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(data)
    with pytest.raises(gguf.GGUFError) as caught:
        gguf.read(path, "x.gguf")
    assert str(caught.value) == f"x.gguf: {message}"
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize(("data", "found"), NO_MODEL)
def test_what_is_no_model_is_recognized(tmp_path: Path, data: bytes, found: str) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(data)
    with pytest.raises(gguf.GGUFError) as caught:
        gguf.read(path)
    assert str(caught.value) == f"{path}: not a GGUF file but {found}"


def test_a_missing_file_and_a_directory_are_refused(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "no", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(gguf.GGUFError) as caught:
            gguf.read(path)
        assert str(caught.value) == f"{path}: cannot be read ({reason}); name an existing file that you may read"


def test_long_and_unprintable_names_do_not_flood_a_message(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(raw([entry(b"\x1b[2J" + b"k" * 5000, 13, b"")]))
    with pytest.raises(gguf.GGUFError) as caught:
        gguf.read(path, "x")
    assert str(caught.value) == (
        "x: the key '\\x1b[2J" + "k" * 52 + "…" + "k" * 15 + "' has the unknown value type 13; GGUF has types 0 to 12"
    )


def test_version_2_a_file_without_tensors_and_one_without_the_last_padding_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(raw([], [tensor(T, (3,))], bytes(12), version=2))
    with gguf.read(path) as file:
        assert (file.version, file.size, file.data_end, file.padded_end) == (2, 76, 76, 96)
        assert file.data(file.tensors["a"]).tolist() == [0] * 12
    path.write_bytes(raw([entry(b"k", 7, b"\1")])[:38])
    with gguf.read(path) as file:
        assert (file.data_offset, file.data_end, file.padded_end) == (38, 38, 38)


def test_a_view_outlives_its_file_and_is_read_only(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(raw([], [tensor(T)], bytes(range(32))))
    with gguf.read(path) as file:
        view = file.data(file.tensors["a"])
    assert view.tolist() == list(range(32))
    assert not view.flags.writeable


def test_a_file_that_changed_since_it_was_read_is_not_copied(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(raw())
    with gguf.read(path) as file:
        path.write_bytes(raw(data=ROOM))
        with pytest.raises(gguf.GGUFError) as caught, file.descriptor():
            pass
    assert str(caught.value) == f"{path}: changed while it was read; run again when nothing writes to it"
