"""diff: what differs is named, by key, tensor and block; nothing else is."""

import json
import struct
from pathlib import Path

import pytest

import gguf_files
from projects import Project
from quantmill import gguf
from quantmill.gguf import KV, ValueType, kv
from quantmill.gguf.comparison import compare
from quantmill.gguf.layout import TensorEntry
from quantmill.gguf.types import TYPES

TENSORS = [
    ("norm", (8,), TYPES["F32"]),
    ("w", (256, 3), TYPES["Q4_K"]),
    ("e", (64, 2), TYPES["Q8_0"]),
]
METADATA = [kv("general.name", "x"), kv("a.list", [1, 2, 3]), kv("a.words", ["one", "two"]), kv("a.f32", 1.5)]


def write(path: Path, tensors: list[TensorEntry] = TENSORS, metadata: list[KV] = METADATA) -> Path:
    return gguf_files.write(path, tensors, metadata, zeros=True)


@pytest.fixture
def left(tmp_path: Path) -> Path:
    return write(tmp_path / "left.gguf")


def said(left: Path, right: Path) -> list[str]:
    return [str(difference) for difference in compare(left, right)]


def flip(path: Path, tensor: str, at: int) -> None:
    with gguf.read(path) as file:
        position = file.data_offset + file.tensors[tensor].offset + at
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def test_files_of_the_same_bytes_do_not_differ(left: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    right = write(tmp_path / "right.gguf")
    assert compare(left, right, progress=lambda done, total: seen.append((done, total))) == []
    assert seen[-1][0] == seen[-1][1] > 0


def test_one_bit_is_named_by_tensor_and_block(left: Path, tmp_path: Path) -> None:
    right = write(tmp_path / "right.gguf")
    flip(right, "w", 144 * 2 + 143)
    assert said(left, right) == ["tensor w: Q4_K: block 2 of 3 is the first that differs, 1 in all"]
    flip(right, "w", 144 - 1)
    flip(right, "norm", 4 * 7)
    found = compare(left, right)
    assert [(item.name, item.block, item.blocks) for item in found] == [("norm", 7, 1), ("w", 0, 2)]
    assert str(found[0]) == "tensor norm: F32: weight 7 of 8 is the first that differs, 1 in all"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (kv("general.name", "y"), "metadata general.name: 'x' and 'y'"),
        (kv("general.name", 7), "metadata general.name: STRING and UINT32"),
        (kv("a.list", [1, 2]), "metadata a.list: 3 elements and 2"),
        (kv("a.list", [1, 5, 3]), "metadata a.list: element 1 of 3: 2 and 5"),
        (kv("a.words", ["one", "2"]), "metadata a.words: element 1 of 2: 'two' and '2'"),
        (kv("b", 1), "metadata b: 1 only in the second"),
        (KV("a.f32", ValueType.FLOAT32, struct.pack("<f", float("nan"))), "metadata a.f32: 1.5 and nan"),
    ],
)
def test_metadata(left: Path, tmp_path: Path, change: KV, expected: str) -> None:
    entries = {entry.key: entry for entry in METADATA} | {change.key: change}
    right = write(tmp_path / "right.gguf", metadata=list(entries.values()))
    assert said(left, right) == [expected]


def test_a_key_or_tensor_of_one_side_only(left: Path, tmp_path: Path) -> None:
    right = write(tmp_path / "right.gguf", [*TENSORS[:2], ("z", (1,), TYPES["F32"])], METADATA[1:])
    assert said(left, right) == [
        "metadata general.name: 'x' only in the first",
        "tensor e: only in the first",
        "tensor z: only in the second",
    ]


def test_types_and_shapes(left: Path, tmp_path: Path) -> None:
    changed = [("norm", (8, 2), TYPES["F32"]), ("w", (256, 3), TYPES["Q6_K"]), TENSORS[2]]
    assert said(left, write(tmp_path / "right.gguf", changed)) == [
        "tensor norm: the shape [8] and [8, 2]",
        "tensor w: Q4_K and Q6_K",
    ]


def test_orders_and_paddings(left: Path, tmp_path: Path) -> None:
    right = write(tmp_path / "right.gguf", TENSORS[::-1])
    assert said(left, right) == ["the tensors are the same, in another order"]
    write(right, metadata=METADATA[::-1])
    assert said(left, right) == ["the metadata is the same, its keys in another order"]
    data = bytearray(left.read_bytes())
    data[-1] ^= 1
    right.write_bytes(data)
    assert said(left, right) == [f"the content is the same, the padding at byte {len(data) - 1} is not"]
    right.write_bytes(data + b"+")
    assert said(left, right) == [f"the content is the same, the size {len(data)} and {len(data) + 1}"]


def test_shards_are_compared_as_one_file(left: Path, tmp_path: Path) -> None:
    parts = gguf.split(left, tmp_path / "parts", "x", max_tensors=1)
    assert compare(left, parts[1]) == []
    flip(parts[2], "e", 0)
    assert said(left, parts[0]) == ["tensor e: Q8_0: block 0 of 4 is the first that differs, 1 in all"]


def test_the_command(left: Path, tmp_path: Path) -> None:
    right, project = write(tmp_path / "right.gguf"), Project(tmp_path)
    assert project.run("quantmill", "diff", str(left), str(right)).stdout == "the same\n"
    flip(right, "e", 40)
    found = json.loads(project.run("quantmill", "diff", str(left), str(right), "--json", check=1).stdout)
    assert [(item["kind"], item["name"], item["block"]) for item in found] == [("tensor", "e", 1)]
