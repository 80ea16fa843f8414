"""Entries, headers and the writer: what is written is what is read, and a failure leaves nothing behind."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf as package
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gguf_files import F32, Q4_K, Q8_0, described, every_kind, write
from quantmill import gguf
from quantmill.gguf import KV, ValueType, kv

INTEGERS = {ValueType.UINT8: (0, 8), ValueType.INT8: (1, 8), ValueType.UINT16: (0, 16), ValueType.INT16: (1, 16)}
INTEGERS |= {ValueType.UINT32: (0, 32), ValueType.INT32: (1, 32), ValueType.UINT64: (0, 64), ValueType.INT64: (1, 64)}


def values(type_: ValueType) -> st.SearchStrategy[Any]:
    if type_ in INTEGERS:
        signed, bits = INTEGERS[type_]
        return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else st.integers(0, 2**bits - 1)
    if type_ is ValueType.BOOL:
        return st.booleans()
    if type_ is ValueType.STRING:
        return st.text()
    return st.floats(width=32 if type_ is ValueType.FLOAT32 else 64, allow_nan=False)


def entries() -> st.SearchStrategy[KV]:
    plain = [type_ for type_ in ValueType if type_ is not ValueType.ARRAY]
    keys = st.text(min_size=1).filter(lambda key: "\0" not in key and key != "general.alignment")
    return st.one_of(
        *(st.builds(kv, keys, values(type_), st.just(type_)) for type_ in plain),
        *(st.builds(kv, keys, st.lists(values(t)), st.just(ValueType.ARRAY), st.just(t)) for t in plain),
    )


def test_value_types_are_those_of_the_gguf_package() -> None:
    assert {t.name: t.value for t in ValueType} == {t.name: t.value for t in package.GGUFValueType}


@settings(max_examples=200, deadline=None)
@given(st.lists(entries(), unique_by=lambda entry: entry.key, max_size=8))
def test_entries_survive_a_file(tmp_path_factory: pytest.TempPathFactory, kvs: list[KV]) -> None:
    path = tmp_path_factory.mktemp("x") / "x.gguf"
    write(path, [], kvs)
    with gguf.read(path) as file:
        found = list(file.metadata.values())
        assert found == kvs
        assert [entry.value for entry in found] == [entry.value for entry in kvs]
        assert gguf.header(found, [])[0] == path.read_bytes()


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 30), st.integers(1, 5), st.sampled_from([1, 8, 32, 64, 4096]))
def test_tensors_survive_a_file(
    tmp_path_factory: pytest.TempPathFactory, count: int, scale: int, alignment: int
) -> None:
    path = tmp_path_factory.mktemp("x") / "x.gguf"
    kvs = [kv("general.alignment", alignment)]
    write(path, described(count, scale), kvs)
    assert gguf.file_size(kvs, described(count, scale)) == path.stat().st_size
    with gguf.read(path) as file:
        assert file.alignment == alignment
        assert file.tensor_entries() == described(count, scale)
        assert file.padded_end == file.size
        assert gguf.header_size(kvs, described(count, scale)) == file.data_offset
        with gguf.Writer(path.with_name("y"), kvs, described(count, scale)) as writer:
            for info in file.tensors.values():
                data = file.data(info)
                writer.append(data[: info.nbytes // 3])
                writer.append(bytes(data[info.nbytes // 3 :]))
    assert path.read_bytes() == path.with_name("y").read_bytes()


def test_a_file_equals_that_of_the_gguf_package(tmp_path: Path) -> None:
    theirs = package.GGUFWriter(tmp_path / "theirs.gguf", "llama")
    theirs.add_uint32("a", 1)
    theirs.add_array("b", ["x", "yz"])
    theirs.add_array("c", [1, 2])
    theirs.add_float32("d", 0.5)
    theirs.add_bool("e", False)
    first, second = np.arange(6, dtype=np.float32).reshape(2, 3), np.arange(5, dtype=np.float32)
    theirs.add_tensor("t", first)
    theirs.add_tensor("u", second)
    theirs.write_header_to_file()
    theirs.write_kv_data_to_file()
    theirs.write_tensors_to_file()
    theirs.close()
    kvs = [kv("general.architecture", "llama"), kv("a", 1), kv("b", ["x", "yz"]), kv("c", [1, 2]), kv("d", 0.5)]
    with gguf.Writer(tmp_path / "ours.gguf", [*kvs, kv("e", False)], [("t", (3, 2), F32), ("u", (5,), F32)]) as writer:
        writer.append(first)
        writer.append(second)
    assert (tmp_path / "ours.gguf").read_bytes() == (tmp_path / "theirs.gguf").read_bytes()


def test_types_are_guessed_as_the_converter_does() -> None:
    cases: list[tuple[Any, ValueType, ValueType | None]] = [
        (True, ValueType.BOOL, None),
        (5, ValueType.UINT32, None),
        (-5, ValueType.INT32, None),
        (2**32, ValueType.UINT64, None),
        (-(2**31) - 1, ValueType.INT64, None),
        (0.5, ValueType.FLOAT32, None),
        (b"raw", ValueType.STRING, None),
        ([1, 2], ValueType.ARRAY, ValueType.INT32),
        (["a", b"b"], ValueType.ARRAY, ValueType.STRING),
        ([0.5], ValueType.ARRAY, ValueType.FLOAT32),
        ([False], ValueType.ARRAY, ValueType.BOOL),
    ]
    for value, type_, subtype in cases:
        entry = kv("k", value)
        assert (entry.type, entry.subtype) == (type_, subtype), value


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kv("k", 256, ValueType.UINT8), "the key 'k' cannot hold '256' as UINT8; give a value of that type"),
        (lambda: kv("k", "x", ValueType.UINT32), "the key 'k' cannot hold 'x' as UINT32; give a value of that type"),
        (
            lambda: kv("k", True, ValueType.UINT32),
            "the key 'k' cannot hold 'True' as UINT32; give a value of that type",
        ),
        (lambda: kv("k", 1, ValueType.BOOL), "the key 'k' cannot hold '1' as BOOL; give a value of that type"),
        (lambda: kv("k", []), "the key 'k' cannot hold '[]' as ARRAY; give a value of that type"),
        (
            lambda: kv("k", [1, "a"]),
            "the key 'k' cannot hold \"[1, 'a']\" as ARRAY of INT32; give a value of that type",
        ),
    ],
)
def test_a_value_that_does_not_fit_is_refused(call: Callable[[], KV], message: str) -> None:
    with pytest.raises(gguf.GGUFError) as caught:
        call()
    assert str(caught.value) == message


def test_entries_are_copied_as_llama_cpp_copies_them() -> None:
    found = {entry.key: entry.canonical().value for entry in every_kind()}
    assert found["odd.bool"] is True
    assert found["odd.bools"] == [True, False, True]
    assert found["nul"] == "x"
    assert found["array.strings"] == ["a", "", "b"]
    assert gguf.ggml_shape((3, 1, 2, 1)) == (3, 1, 2)
    assert gguf.ggml_shape((1, 1)) == (1,)
    assert gguf.ggml_shape(()) == (1,)


@pytest.mark.parametrize(
    ("kvs", "tensors", "message"),
    [
        ([kv("k", 1), kv("k", 2)], [], "the key 'k' is there twice; every key may be there once"),
        ([kv("", 1)], [], "a key is empty or contains a NUL byte; no key may"),
        (
            [],
            [("t", (1,), F32), ("t", (1,), F32)],
            "the tensor 't' is there twice; every tensor may be there once",
        ),
        ([], [("t", (0,), F32)], "the tensor 't' has the shape [0]; every dimension must be at least 1"),
        ([], [("t", (8, 256), Q4_K)], "the tensor 't' has rows of 8 weights; Q4_K needs a multiple of 256"),
        ([], [("é" * 32, (1,), F32)], "a tensor's name of 64 bytes is too long; ggml keeps 63 bytes"),
    ],
)
def test_what_llama_cpp_would_refuse_is_not_written(kvs: list[KV], tensors: list[Any], message: str) -> None:
    with pytest.raises(gguf.GGUFError) as caught:
        gguf.header_size(kvs, tensors)
    assert str(caught.value) == f"a new GGUF file: {message}"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([31], "x: the tensor 'a' was given 31 bytes; it takes 32"),
        ([33], "x: the tensor 'a' was given 33 bytes; it takes 32"),
        ([32, 34, 1], "x: the tensor 'after the last one' was given 1 bytes; it takes 0"),
        ([32], "x: the tensor 'b' was given 0 bytes; it takes 34"),
    ],
)
def test_wrong_byte_counts_are_refused_and_leave_nothing(tmp_path: Path, given: list[int], message: str) -> None:
    tensors = [("a", (8,), F32), ("b", (32,), Q8_0)]

    def fill() -> None:
        with gguf.Writer(tmp_path / "x", [], tensors, place="x") as writer:
            for count in given:
                writer.append(bytes(count))

    with pytest.raises(gguf.GGUFError) as caught:
        fill()
    assert str(caught.value) == message
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_caller_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("old")

    def fail() -> None:
        with gguf.Writer(path, [], [("a", (8,), F32)]) as writer:
            writer.append(bytes(16))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    path = tmp_path / "no" / "x"
    with pytest.raises(gguf.GGUFError) as caught, gguf.Writer(path, [], []):
        pass
    assert str(caught.value) == (
        f"{path}: cannot be written (No such file or directory); name a place where you may write"
    )


class FullDisk:
    """A file on a disk with room for `room` bytes more; what a write cannot store it refuses with ENOSPC."""

    def __init__(self, room: int) -> None:
        self.room = room

    def __call__(self, path: Path | int, mode: str) -> "FullDisk":
        self.file = open(path, mode)  # noqa: SIM115 -- close() does
        return self

    def write(self, data: memoryview) -> int:
        count = min(len(data), self.room)
        if not count:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room -= count
        return self.file.write(data[:count])

    def fileno(self) -> int:
        return self.file.fileno()

    def close(self) -> None:
        self.file.close()


@pytest.mark.parametrize("room", [0, 10, 64, 70, 95])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quantmill.output_file.FileIO", FullDisk(room))
    writer = gguf.Writer(tmp_path / "x", [], [("a", (8,), F32)], place="x")
    with pytest.raises(gguf.GGUFError) as caught, writer:
        writer.append(bytes(32))
    assert str(caught.value) == (
        f"x: the disk is full after {room} of 96 bytes; free {96 - room} bytes there and run again"
    )
    assert list(tmp_path.iterdir()) == []


def test_copying_without_the_kernels_help_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> int:
        raise OSError(errno.EXDEV, "")

    source = write(tmp_path / "a", described(20), [])
    monkeypatch.setattr(os, "copy_file_range", refused)
    monkeypatch.setattr("quantmill.gguf.writer._CHUNK", 7)
    writer = gguf.Writer(tmp_path / "b", [], described(20))
    with gguf.read(source) as file, file.descriptor() as descriptor, writer:
        for info in file.tensors.values():
            writer.append_from(descriptor, file.data_offset + info.offset, info.nbytes)
    assert (tmp_path / "b").read_bytes() == source.read_bytes()
