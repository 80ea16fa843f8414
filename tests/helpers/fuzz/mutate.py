"""Mutations of GGUF files, by structure or by bytes: some keep a file whole with odd contents, others break it."""

import copy
import random
import struct
from dataclasses import replace

from quantmill.gguf import ValueType, kv
from quantmill.gguf.scales import FIELDS
from quantmill.gguf.types import BY_ID, TYPES

from .parts import KVPart, Parts, TensorPart, sizes_of, stored

ODD = [0, 1, 2, 3, 5, 9, 31, 32, 33, 63, 64, 127, 255, 256, 2**8 + 1, 2**16 - 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1]
ODD += [2**32, 2**40, 2**48, 2**62, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1]
KEYS = [
    "general.alignment",
    "general.architecture",
    "general.file_type",
    "general.quantization_version",
    "split.no",
    "split.count",
    "split.tensors.count",
    "llama.block_count",
    "llama.attention.head_count",
    "llama.attention.head_count_kv",
    "llama.expert_count",
    "qwen2.block_count",
    "qwen2.expert_count",
    "falcon.block_count",
    "falcon.attention.head_count",
    "imatrix.datasets",
    "imatrix.chunk_count",
    "quantize.imatrix.file",
]
NAMES = [
    "token_embd.weight",
    "output.weight",
    "blk.0.attn_v.weight",
    "blk.1.attn_v.weight",
    "blk.0.ffn_up_exps.weight",
    "blk.weight",
    "blk.99999999999999999999.ffn_down.weight",
    "blk.-1.ffn_down.weight",
    "rope_freqs.weight",
    "x",
    "weight",
    "blk.0.attn_qkv.weight",
]
TEXTS = [
    b"",
    b"\0",
    b"\xff\xfe",
    b"a" * 63,
    b"b" * 64,
    b"blk.\xd9\xa3.attn_v.weight",
    b"../../x",
    b"%s\n",
    b"\xed\xa0\x80",
]


def odd_value(rng: random.Random, key: str) -> KVPart:
    """A whole entry of any type, often of none that the key has in life."""
    kind = rng.choice(list(ValueType))
    value: object
    match kind:
        case ValueType.STRING:
            value = rng.choice(["", "llama", "qwen2", "a\0b", "32"])
        case ValueType.BOOL:
            value = rng.random() < 0.5
        case ValueType.FLOAT32 | ValueType.FLOAT64:
            value = rng.choice([0.0, 1.5, float("nan"), float("inf"), -1e30])
        case ValueType.ARRAY:
            sub = rng.choice([ValueType.INT32, ValueType.STRING, ValueType.FLOAT32, ValueType.BOOL, ValueType.UINT64])
            some = {ValueType.STRING: "8", ValueType.FLOAT32: float("nan"), ValueType.BOOL: True}.get(sub, 8)
            made = kv(key, [some] * rng.choice([0, 1, 1, 2]), subtype=sub)
            return KVPart(key.encode(), 9, made.encode()[12 + len(key.encode()) :])
        case _:
            size = {0: 8, 1: 7, 2: 16, 3: 15, 4: 32, 5: 31, 10: 64, 11: 63}[int(kind)]
            value = rng.choice(ODD) % 2**size
    made = kv(key, value, kind)
    return KVPart(key.encode(), int(kind), made.encode()[12 + len(key.encode()) :])


def text(rng: random.Random) -> bytes:
    return rng.choice(TEXTS) if rng.random() < 0.5 else rng.choice(NAMES).encode()


def of_header(parts: Parts, rng: random.Random) -> None:
    match rng.randrange(6):
        case 0:
            parts.n_tensors = rng.choice([*ODD, len(parts.tensors) + 1, len(parts.tensors) - 1])
        case 1:
            parts.n_kvs = rng.choice([*ODD, len(parts.kvs) + 1, len(parts.kvs) - 1])
        case 2:
            parts.version = rng.choice([2, 2, 1, 4, *ODD])
        case 3:
            parts.alignment = rng.choice([1, 2, 4, 8, 16, 64, 128, 4096])
            parts.kvs = [e for e in parts.kvs if e.key != b"general.alignment"]
            parts.kvs.append(KVPart(b"general.alignment", 4, struct.pack("<I", parts.alignment)))
        case 4:
            parts.lengths[rng.randrange(1, 24)] = rng.choice(ODD)
        case 5:
            parts.tail = rng.randbytes(rng.randrange(1, 99))


def of_entries(parts: Parts, rng: random.Random) -> None:
    if not parts.kvs or rng.random() < 0.4:
        key = rng.choice(KEYS)
        if rng.random() < 0.8:
            parts.kvs = [e for e in parts.kvs if e.key.decode(errors="replace") != key]
        parts.kvs.insert(rng.randint(0, len(parts.kvs)), odd_value(rng, key))
        return
    number = rng.randrange(len(parts.kvs))
    entry = parts.kvs[number]
    match rng.randrange(7):
        case 0:
            entry.type = rng.choice([*range(14), *ODD])
        case 1 if entry.type == 9:
            entry.raw = struct.pack("<I", rng.choice([*range(14), *ODD]) % 2**32) + entry.raw[4:]
        case 2 if entry.type == 9:
            entry.raw = entry.raw[:4] + struct.pack("<Q", rng.choice(ODD)) + entry.raw[12:]
        case 3:
            del parts.kvs[number]
        case 4:
            parts.kvs.append(copy.copy(entry))
        case 5:
            entry.key = text(rng)
        case _:
            raw = bytearray(entry.raw)
            raw[rng.randrange(len(raw))] = rng.randrange(256)
            entry.raw = bytes(raw)


def of_tensors(parts: Parts, rng: random.Random) -> None:
    if not parts.tensors:
        return
    number = rng.randrange(len(parts.tensors))
    t = parts.tensors[number]
    match rng.randrange(11):
        case 0 if t.shape:
            t.shape[rng.randrange(len(t.shape))] = rng.choice(ODD)
        case 1:
            t.type = rng.choice([*TYPES.values()]).id if rng.random() < 0.7 else rng.choice([*range(45), *ODD])
        case 2:
            t.offset = rng.choice([*ODD, 32 * rng.randrange(200)])
        case 3:
            t.n_dims = rng.choice([0, 1, 2, 3, 4, 5, *ODD])
        case 4:
            t.name = text(rng)
        case 5:
            parts.tensors.append(copy.deepcopy(t))
        case 6:
            del parts.tensors[number]
        case 7:
            rng.shuffle(parts.tensors)
        case 8:
            reshape(t, rng)
        case 9:
            t.data = t.data[: rng.randrange(len(t.data) + 1)]
        case _:
            retype(t, rng)


def reshape(t: TensorPart, rng: random.Random) -> None:
    """Another shape for the data that is there."""
    found = sizes_of(t)
    if found is None:
        return
    block, size = found
    blocks = max(1, len(t.data) // size)
    rows = rng.choice([n for n in range(1, blocks + 1) if blocks % n == 0])
    shape = [blocks // rows * block, rows]
    t.shape = rng.choice(
        [shape, [*shape, 1], [*shape, 1, 1], [shape[0], 1, rows], [shape[0], 1, 1, rows], [blocks * block]]
    )


def retype(t: TensorPart, rng: random.Random) -> None:
    """Another type, with the data that it needs: its own, or any bytes."""
    type_ = rng.choice([*TYPES.values()])
    if not t.shape or t.shape[0] % type_.block or not 0 < t.shape[0] <= 1024 or any(n > 8 for n in t.shape[1:]):
        return
    if any(n <= 0 for n in t.shape):
        return
    count = type_.row_bytes(t.shape[0])
    for n in t.shape[1:]:
        count *= n
    t.type = type_.id
    t.data = rng.randbytes(count) if rng.random() < 0.5 else stored(rng, type_.name, t.shape)


def of_data(parts: Parts, rng: random.Random) -> None:
    """Bits of the weights, often those of a scale; every bit pattern is one that a file may hold."""
    full = [t for t in parts.tensors if t.data]
    if not full:
        return
    t = rng.choice(full)
    data = bytearray(t.data)
    type_ = BY_ID.get(t.type)
    match rng.randrange(5):
        case 0:
            for _ in range(rng.choice([1, 3, 20])):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        case 1:
            at = rng.randrange(len(data))
            data[at : at + 16] = bytes([rng.choice([0, 255, 127, 128])]) * len(data[at : at + 16])
        case 2:
            data[:] = rng.randbytes(len(data))
        case _ if type_ and FIELDS[type_.name]:
            f = rng.choice(FIELDS[type_.name])
            for _ in range(rng.choice([1, 1, 40])):
                at = rng.randrange(max(1, len(data) // type_.size)) * type_.size + f.offset
                data[at : at + 2] = struct.pack(
                    "<H", rng.choice([0x7BFF, 0xFBFF, 1, 0x8001, 0x7C00, 0x7E00, 0x7F7F, 0])
                )
            del data[len(t.data) :]
    t.data = bytes(data)


STRUCTURAL = (of_header, of_entries, of_entries, of_tensors, of_tensors, of_tensors, of_data, of_data)


def of_bytes(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """Changes that know no structure."""
    made = bytearray(data)
    if not made:
        return other
    at = rng.randrange(len(made)) if rng.random() < 0.3 else rng.randrange(min(1200, len(made)))
    match rng.randrange(7):
        case 0:
            made[at] ^= 1 << rng.randrange(8)
        case 1:
            made[at : at + 8] = struct.pack("<Q", rng.choice(ODD))
        case 2:
            made[at : at + 4] = struct.pack("<I", rng.choice(ODD) % 2**32)
        case 3:
            del made[at : at + rng.randrange(1, 64)]
        case 4:
            made[at:at] = rng.randbytes(rng.randrange(1, 64))
        case 5:
            del made[at:]
        case _:
            made[at:] = other[rng.randrange(len(other) + 1) if rng.random() < 0.5 else at :]
    return bytes(made)


def mutated(base: Parts, other: Parts, rng: random.Random) -> bytes:
    """The file with one to four changes."""
    kvs, tensors = map(copy.copy, base.kvs), (replace(t, shape=[*t.shape]) for t in base.tensors)
    parts = replace(base, kvs=[*kvs], tensors=[*tensors], lengths={})
    changes = rng.choice([1, 1, 2, 4])
    bytewise = rng.random() < 0.25
    for _ in range(changes - bytewise):
        rng.choice(STRUCTURAL)(parts, rng)
    data = parts.encode()
    return of_bytes(data, other.encode(), rng) if bytewise else data
