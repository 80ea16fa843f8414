"""The conformance set: small models and calls, over which our files are compared with those of a llama.cpp.

Which type a tensor takes follows from names, widths, layers and metadata alone, so that matrices of two rows will do. A
few models have more, with weights and importances that tell kernels apart. All is made from a hash, the same for ever.

Each shape takes every ftype with and without an imatrix, and every set of options with three ftypes, both ways. Each
architecture of llama.cpp's suite takes every ftype once, every second one with an imatrix, and every set of options
once, with an ftype that moves on from model to model.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from quantmill import gguf
from quantmill.admission import architectures
from quantmill.admission.shapes import LATER, MODELS, Model
from quantmill.imatrix import Entry, encode

IMATRIX_NAME = "conformance.imatrix"  # what files say that their imatrix was called
DATASET = b"conformance.txt"
CHUNKS = 5

SHAPES = MODELS | LATER
CORE = {name for name, (facts, _) in MODELS.items() if not facts["general.architecture"].startswith("qwen3")}
SUITE = architectures.models()
ALL = SHAPES | SUITE

# Options of llama-quantize by a name, as quantize_file takes them.
OPTIONS: dict[str, dict[str, Any]] = {
    "": {},
    "pure": {"pure": True},
    "leave output": {"leave_output_tensor": True},
    "output and embedding": {"output_tensor_type": "Q8_0", "token_embedding_type": "Q6_K"},
    "patterns": {"tensor_types": [("attn_v", "Q8_0"), ("ffn_down", "Q6_K")]},
    "overlapping patterns": {"tensor_types": [("attn_q", "Q4_K"), ("attn_", "Q6_K")]},
    "pattern and key": {"tensor_types": [("blk.0.ffn_down", "Q8_0")], "override_kv": [("conformance.number", 77)]},
    "pure with pattern": {"pure": True, "tensor_types": [("attn_q", "Q8_0")]},
    "prune": {"prune_layers": (1,), "tensor_types": [("blk.2.ffn_down", "Q8_0")]},
    "embeddings by pattern": {"token_embedding_type": "Q8_0", "tensor_types": [("per_layer_token_embd", "Q5_1")]},
}
OPTION_FTYPES = ("Q4_K_M", "IQ3_XXS", "Q5_0")


@dataclass(frozen=True)
class Call:
    """One file to write: of a model, as an ftype, with its imatrix or without, with options of llama-quantize."""

    model: str
    ftype: str
    guided: bool
    options: str = ""

    def __str__(self) -> str:
        parts = [self.model, self.ftype]
        return ", ".join([*parts, *["with an imatrix"] * self.guided, *[self.options] * bool(self.options)])


def calls(ftypes: list[str]) -> Iterator[Call]:
    """Every call: those of the shapes, then those of the suite's architectures."""
    for model in SHAPES:
        for ftype in ftypes:
            for guided in (False, True):
                yield Call(model, ftype, guided)
    for options in filter(None, OPTIONS):
        for model in SHAPES:
            for ftype in OPTION_FTYPES:
                for guided in (False, True):
                    yield Call(model, ftype, guided, options)
    for at, model in enumerate(SUITE):
        for n, ftype in enumerate(ftypes):
            yield Call(model, ftype, (at + n) % 2 > 0)
        for n, options in enumerate(filter(None, OPTIONS)):
            turn = at * len(OPTIONS) + n
            yield Call(model, ftypes[turn % len(ftypes)], turn // len(ftypes) % 2 > 0, options)


def write(folder: Path, name: str) -> None:
    """The model of that name as `<name>.gguf`, and `<name>.imatrix`, in the legacy form that every tag reads."""
    facts, tensors = ALL[name]
    kvs = [value if isinstance(value, gguf.KV) else gguf.kv(key, value) for key, value in facts.items()]
    with gguf.Writer(folder / f"{name}.gguf", kvs, tensors) as writer:
        for tensor, shape, type_ in tensors:
            values = _weights(name, tensor, shape)
            writer.append(values.astype("<f2" if type_.name == "F16" else "<f4").tobytes())
    entries = [Entry(tensor, 1, vector) for tensor, vector in _importance(name, ALL[name])]
    (folder / f"{name}.imatrix").write_bytes(encode(entries, DATASET, CHUNKS))


def digest(asked: Iterable[Call]) -> str:
    """What was asked, as 16 hex digits: it moves when a model, a weight or a call does."""
    said = [sorted(map(str, asked)), OPTIONS, _weights("kernels", "x", (256, 2)).tolist()]
    text = json.dumps([said, {name: [facts, tensors] for name, (facts, tensors) in ALL.items()}], default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _noise(seed: str, count: int) -> npt.NDArray[np.float32]:
    """`count` values between -1 and 1, nearer to 0 more often, from a hash."""
    raw = np.frombuffer(hashlib.shake_256(seed.encode()).digest(2 * count), "<i2")
    values: npt.NDArray[np.float32] = raw.astype(np.float32)
    np.divide(values, np.float32(32768), out=values)
    np.multiply(values, np.abs(values), out=values)
    return values


def _weights(model: str, tensor: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    values = _noise(f"{model} {tensor}", int(np.prod(shape))).reshape(-1, shape[0])
    if model == "nasty" and len(shape) > 1:
        _spoil(values)
    return np.ravel(values)


def _spoil(rows: npt.NDArray[np.float32]) -> None:
    """Rows of eight kinds that searches find nothing in, or little: zeros, very small values, one magnitude."""
    half = rows.shape[1] // 2
    rows[1::8, :half] = 0
    rows[2::8] *= np.float32(1e-6)
    rows[3::8, ::2] = 0
    rows[4::8][np.abs(rows[4::8]) < 0.8] = 0
    rows[5::8] *= np.float32(1e-9)
    rows[6::8] = np.sign(rows[6::8]) * np.float32(0.01)


def _importance(name: str, model: Model) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """A vector for every matrix in a layer; in the nasty model, of every second one a group is zero."""
    for at, (tensor, shape, _) in enumerate(model[1]):
        if "blk." in tensor and len(shape) > 1:
            vector = np.abs(_noise(f"importance {name} {tensor}", shape[0] * (shape[2] if len(shape) > 2 else 1)))
            vector += np.float32(0.001)
            if name == "nasty" and at % 2:
                vector[32:96] = 0
            yield tensor, vector
