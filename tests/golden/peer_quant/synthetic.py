"""Small bases and imatrices whose every byte is fixed, for digests that llama-quantize's output is recorded by."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from quantmill import gguf
from quantmill.admission.shapes import Model, family
from quantmill.gguf.types import TYPES
from quantmill.imatrix import Entry, encode

MODELS: dict[str, Model] = {
    "dense": family("qwen2", 2, 4, 2, ffn=768),
    "tied": family("llama", 3, 8, 2, ffn=512, tied=True),
    "narrow": family("qwen2", 2, 4, 2, width=96, ffn=160, tied=True),
    "experts": family("qwen3moe", 2, 8, 2, experts=4),
}

_BEFORE: dict[str, Any] = {"tokenizer.ggml.tokens": ["a", "b\0c", "ü"], "general.quantization_version": 1}
_AFTER: dict[str, Any] = {
    "tokenizer.ggml.scores": [0.5, -1.0, 0.0],
    "tokenizer.ggml.token_type": [1, 2, 3],
    "x.flags": [True, False],
    "x.text": "cut\0off",
    "x.yes": True,
    "x.wide": 2**40,
}
IMATRIX = "imatrix.dat"


def noise(seed: str, count: int) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """`count` float32 values between -8 and 8, from a hash, the same for ever."""
    raw = np.frombuffer(hashlib.shake_256(seed.encode()).digest(2 * count), "<i2")
    return raw.astype(np.float32) / np.float32(4096)


def stored(values: "np.ndarray[Any, np.dtype[np.float32]]", type_: str) -> bytes:
    """Values as F32, F16 or BF16 (cut off, which is exact for what `noise` makes of 8 bits)."""
    if type_ == "BF16":
        return (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    return values.astype("<f2" if type_ == "F16" else "<f4").tobytes()


def write_base(path: Path, model: Model, type_: str = "F16", more: dict[str, Any] | None = None) -> None:
    """The model with matrices of `type_` and metadata of every kind, keys that a quantizer sets among them."""
    facts, tensors = model
    kvs = [gguf.kv(key, value) for key, value in (_BEFORE | facts | _AFTER | (more or {})).items()]
    described = [(n, shape, TYPES[type_] if t.name == "F16" else t) for n, shape, t in tensors]
    with gguf.Writer(path, kvs, described) as writer:
        for name, shape, kind in described:
            writer.append(stored(noise(name, int(np.prod(shape))), kind.name))


def write_imatrix(path: Path, model: Model) -> None:
    """A vector for every matrix in a layer, some columns zero, and one for the token embedding of a wrong length."""
    entries = [Entry("token_embd.weight", 1, np.ones(3, np.float32))]
    for name, shape, _ in model[1]:
        if "blk." in name and len(shape) > 1:
            values = np.abs(noise(f"imatrix {name}", shape[0] * (shape[2] if len(shape) > 2 else 1)))
            entries.append(Entry(name, 3, values))
    path.write_bytes(encode(entries, b"calibration.txt", 5))


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
