"""GGUF files in parts that a mutation can change one by one, whatever the result is worth."""

import random
import struct
from dataclasses import dataclass, field

import numpy as np

from quantmill import _kernels, gguf
from quantmill.gguf import ValueType, kv
from quantmill.gguf.types import BY_ID, TYPES
from quantmill.imatrix import Entry, encode

WRITABLE = frozenset(_kernels.quantize_types())


@dataclass
class KVPart:
    key: bytes
    type: int
    raw: bytes  # after the type: an array's begins with the type of its elements


@dataclass
class TensorPart:
    name: bytes
    shape: list[int]
    type: int
    data: bytes
    offset: int | None = None  # where the layout is to be wrong
    n_dims: int | None = None


@dataclass
class Parts:
    kvs: list[KVPart]
    tensors: list[TensorPart]
    alignment: int = 32
    version: int = 3
    magic: bytes = b"GGUF"
    n_tensors: int | None = None
    n_kvs: int | None = None
    tail: bytes = b""
    lengths: dict[int, int] = field(default_factory=dict)  # the claimed lengths of the n-th text, where they are wrong

    def encode(self) -> bytes:
        """The file, laid out as the alignment asks."""
        texts = 0

        def text(value: bytes) -> bytes:
            nonlocal texts
            texts += 1
            return struct.pack("<Q", self.lengths.get(texts, len(value)) % 2**64) + value

        counts = (len(self.tensors) if self.n_tensors is None else self.n_tensors) % 2**64
        n_kvs = (len(self.kvs) if self.n_kvs is None else self.n_kvs) % 2**64
        head = [self.magic, struct.pack("<IQQ", self.version % 2**32, counts, n_kvs)]
        head += [text(e.key) + struct.pack("<I", e.type % 2**32) + e.raw for e in self.kvs]
        at, data = 0, []
        for t in self.tensors:
            n_dims = len(t.shape) if t.n_dims is None else t.n_dims
            head.append(text(t.name) + struct.pack("<I", n_dims % 2**32))
            head.append(b"".join(struct.pack("<Q", length % 2**64) for length in t.shape))
            head.append(struct.pack("<IQ", t.type % 2**32, (at if t.offset is None else t.offset) % 2**64))
            block = t.data + bytes(-len(t.data) % self.alignment)
            data.append(block)
            at += len(block)
        header = b"".join(head)
        return header + bytes(-len(header) % self.alignment) + b"".join(data) + self.tail


def stored(rng: random.Random, name: str, shape: list[int]) -> bytes:
    """Data of the type: quantized normal numbers where there is a kernel, else bytes that every type allows."""
    type_, count = TYPES[name], int(np.prod(shape))
    values = np.random.default_rng(rng.getrandbits(32)).standard_normal(count, np.float32)
    if name == "F32":
        return values.tobytes()
    if name in WRITABLE:
        rows = np.ascontiguousarray(values.reshape(-1, shape[0]))
        out = np.empty(count // type_.block * type_.size, np.uint8)
        _kernels.quantize(name, rows, out, np.ones(shape[0], np.float32))
        return out.tobytes()
    return rng.randbytes(count) + bytes(count * type_.size - count)  # small numbers


def entries(arch: str, more: list[gguf.KV]) -> list[KVPart]:
    kvs = [
        kv("general.architecture", arch),
        kv("general.name", "fuzzed ü"),
        kv(f"{arch}.block_count", 1),
        kv(f"{arch}.attention.head_count", 8),
        kv(f"{arch}.attention.head_count_kv", [2]),
        kv("general.file_type", 1),
        *more,
        kv("tokenizer.ggml.tokens", ["a", "b\0c", "ü"]),
        kv("tokenizer.ggml.scores", [0.5, -1.0]),
        kv("x.flags", [True, False]),
        kv("x.double", 0.1, ValueType.FLOAT64),
        kv("x.i8", -7, ValueType.INT8),
    ]
    return [KVPart(e.key.encode(), e.type, e.encode()[12 + len(e.key.encode()) :]) for e in kvs]


def bases() -> list[Parts]:
    """A small model for every type, whose matrices are of it; every third is a mixture of experts."""
    found = []
    for number, name in enumerate(TYPES):
        rng = random.Random(number)
        narrow = TYPES[name].block <= 32 and number % 2
        width = 64 if narrow else 256
        experts = number % 3 == 0
        shapes: dict[str, tuple[str, list[int]]] = {
            "token_embd.weight": (name, [width, 3]),
            "output.weight": ("F16" if number % 4 else name, [width, 2]),
            "blk.0.attn_v.weight": (name, [width, 2]),
            "blk.0.attn_norm.weight": ("F32", [width]),
        }
        if experts:
            shapes["blk.0.ffn_down_exps.weight"] = (name, [width, 2, 2])
        else:
            shapes["blk.0.ffn_down.weight"] = (name, [2 * width, 1])
        tensors = [
            TensorPart(t.encode(), shape, TYPES[kind].id, stored(rng, kind, shape))
            for t, (kind, shape) in shapes.items()
        ]
        arch = rng.choice(["llama", "qwen2", "falcon"])
        more = [kv(f"{arch}.expert_count", 2)] if experts else []
        found.append(Parts(entries(arch, more), tensors))
    return found


def shards(base: Parts) -> list[Parts]:
    """The model in two files."""
    found = []
    for number, tensors in enumerate((base.tensors[:2], base.tensors[2:])):
        own = [
            kv("split.no", number, ValueType.UINT16),
            kv("split.tensors.count", len(base.tensors), ValueType.INT32),
            kv("split.count", 2, ValueType.UINT16),
        ]
        kvs = [KVPart(e.key.encode(), e.type, e.encode()[12 + len(e.key.encode()) :]) for e in own]
        found.append(Parts([*(base.kvs if number == 0 else []), *kvs], tensors))
    return found


def imatrix(base: Parts, rng: random.Random) -> bytes:
    """A legacy imatrix for the model."""
    found = []
    for t in base.tensors:
        if t.name.startswith((b"blk", b"out")) and len(t.shape) > 1:
            count = t.shape[0] * (t.shape[2] if len(t.shape) > 2 else 1)
            values = np.random.default_rng(rng.getrandbits(32)).random(count, np.float32)
            values *= np.float32(rng.choice([0, 1, 1, 1, 1e-30, 1e30, 1e38]))
            found.append(Entry(t.name.decode(), rng.choice([1, 3]), values))
    return encode(found, b"calibration.txt", 5)


def gguf_imatrix(base: Parts, rng: random.Random) -> Parts:
    """The same in its later form."""
    tensors = []
    for t in base.tensors:
        if t.name.startswith((b"blk", b"out")) and len(t.shape) > 1:
            matrices = t.shape[2] if len(t.shape) > 2 else 1
            sums = np.random.default_rng(rng.getrandbits(32)).random(t.shape[0] * matrices, np.float32)
            shape = [t.shape[0], matrices]
            tensors.append(TensorPart(t.name + b".in_sum2", shape, 0, sums.tobytes()))
            counts = np.full(matrices, rng.choice([0.0, 1, 9, 1e-38]), np.float32)
            tensors.append(TensorPart(t.name + b".counts", [1, matrices], 0, counts.tobytes()))
    kvs = [kv("general.type", "imatrix"), kv("imatrix.datasets", ["text"]), kv("imatrix.chunk_count", 7)]
    return Parts([KVPart(e.key.encode(), e.type, e.encode()[12 + len(e.key) :]) for e in kvs], tensors)


def sizes_of(t: TensorPart) -> tuple[int, int] | None:
    """(block, bytes of a block) of a tensor's type, where that is known."""
    type_ = BY_ID.get(t.type)
    return (type_.block, type_.size) if type_ else None
