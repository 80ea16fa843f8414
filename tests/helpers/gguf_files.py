"""GGUF files for the tests: well-formed ones from a seed, and hostile ones from raw parts."""

import hashlib
import struct
from collections.abc import Sequence
from pathlib import Path

from quantmill import gguf
from quantmill.gguf import KV, ValueType, kv
from quantmill.gguf.layout import TensorEntry
from quantmill.gguf.types import TYPES

F32, F16, Q8_0, Q4_K = (TYPES[name] for name in ("F32", "F16", "Q8_0", "Q4_K"))


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def entry(key: bytes, type_: int, raw: bytes) -> bytes:
    return text(key) + struct.pack("<i", type_) + raw


def tensor(name: bytes, shape: Sequence[int] = (8,), type_: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}qiQ", len(shape), *shape, type_, offset)


def raw(
    entries: Sequence[bytes] = (),
    tensors: Sequence[bytes] = (),
    data: bytes = b"",
    version: int = 3,
    n_tensors: int | None = None,
    n_entries: int | None = None,
) -> bytes:
    """A file from its parts, whatever they are; the counts are those of the parts unless they are given."""
    head = struct.pack(
        "<4sIQQ",
        b"GGUF",
        version,
        len(tensors) if n_tensors is None else n_tensors,
        len(entries) if n_entries is None else n_entries,
    )
    head += b"".join(entries) + b"".join(tensors)
    return head + bytes(-len(head) % 32) + data


def every_kind() -> list[KV]:
    """Entries of every type, and those that llama.cpp's tools do not copy as they are."""
    return [
        kv("general.architecture", "llama"),
        kv("general.name", "synthetic é"),
        kv("a.u8", 7, ValueType.UINT8),
        kv("a.i8", -7, ValueType.INT8),
        kv("a.u16", 7, ValueType.UINT16),
        kv("a.i16", -3, ValueType.INT16),
        kv("a.i32", -3),
        kv("a.u64", 2**63),
        kv("a.i64", -(2**60)),
        kv("a.f32", 1.5),
        kv("a.f64", 0.1, ValueType.FLOAT64),
        kv("a.bool", True),
        kv("array.strings", ["a", "", "b\0c"]),
        kv("nul", "x\0y"),
        kv("array.i32", [1, -2]),
        kv("array.bool", [True, False]),
        kv("array.empty", [], subtype=ValueType.FLOAT32),
        kv("array.f32", [0.5, 1.0]),
        KV("odd.bool", ValueType.BOOL, b"\x05"),
        KV("odd.bools", ValueType.ARRAY, b"\x03" + bytes(7) + b"\x02\x00\xff", ValueType.BOOL),
        kv("split.count", 0, ValueType.UINT16),
        kv("general.alignment", 32),
        kv("last", "z"),
    ]


def described(count: int, scale: int = 1) -> list[TensorEntry]:
    """`count` tensors of many types, some with ones at the end of their shapes, some without dimensions.

    `scale` makes the rows longer.
    """
    names = ("F32", "F16", "BF16", "Q4_0", "Q8_0", "Q4_K", "Q6_K", "I32", "I8", "IQ2_XXS")
    found: list[TensorEntry] = []
    for number in range(count):
        type_ = TYPES[names[number * 7 % 10]]
        shape = (type_.block * (1 + number % 3) * scale, 1 + number * 5 % 4, 1, 1 + number % 2)[: number % 5]
        found.append(TensorEntry(f"t{number}", shape if shape or type_.block == 1 else (type_.block,), type_))
    return found


def write(path: Path, tensors: Sequence[TensorEntry], kvs: Sequence[KV] | None = None, zeros: bool = False) -> Path:
    """A well-formed file with data drawn from SHAKE-256 of each tensor's name, or with zeros."""
    with gguf.Writer(path, every_kind() if kvs is None else kvs, tensors) as writer:
        for info in writer.tensors:
            data = bytes(info.nbytes) if zeros else hashlib.shake_256(info.name.encode()).digest(info.nbytes)
            writer.append(data)
    return path


def changed(source: Path, target: Path, **values: object) -> Path:
    """A copy of a model with other values of some keys, whose dots are written as two underscores."""
    new = {name.replace("__", "."): value for name, value in values.items()}
    with gguf.read(source) as file:
        kvs = [entry for entry in file.metadata.values() if entry.key not in new]
        kvs += [gguf.kv(key, value) for key, value in new.items()]
        with gguf.Writer(target, kvs, [(info.name, info.shape, info.type) for info in file.tensors.values()]) as writer:
            for info in file.tensors.values():
                writer.append(file.data(info))
    return target
