"""Small models of every architecture, whose weights are whole numbers from a seed: the same bytes on any machine."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantmill.architectures.hyperparameters import hyper
from quantmill.architectures.sizes import lines
from quantmill.architectures.tensor_check import expected
from quantmill.gguf import KV, Writer, header, kv
from quantmill.gguf.types import TYPES
from quantmill.vocabulary.byte_level import byte_of

_CHARACTERS = {byte: character for character, byte in byte_of().items()}
VOCABULARY = 258  # every byte, a token that a merge makes, and one that begins a text
LENGTH, CHUNKS = 128, 4


@dataclass(frozen=True)
class Small:
    """`keys` are the metadata's beyond the sizes; `without` are optional tensors that the model does not have."""

    architecture: str
    layers: int = 2
    embd: int = 64
    ff: int = 96
    heads: int = 4
    heads_kv: int = 2
    keys: Mapping[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    type: str = "F32"


_YARN = {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 64}
_MIXTURE = {"expert_count": 8, "expert_used_count": 3}

MODELS = {
    "qwen2": Small("qwen2"),
    "qwen2-yarn": Small("qwen2", keys=_YARN, without=("output.weight",)),
    "qwen3": Small("qwen3", heads_kv=1, keys={"attention.key_length": 32, "attention.value_length": 32}),
    "llama": Small("llama", without=(".bias", "rope_freqs.weight")),
    "llama-3": Small("llama", heads_kv=4, keys={"rope.freq_base": 500000.0}, without=(".bias", "output.weight")),
    "llama-bias": Small("llama", without=("rope_freqs.weight", "output.weight")),
    "llama-linear": Small(
        "llama",
        keys={"rope.scaling.type": "linear", "rope.scaling.factor": 2.0},
        without=(".bias", "rope_freqs.weight"),
    ),
    "mixtral": Small("llama", keys=_MIXTURE, without=(".bias", "rope_freqs.weight")),
    "gemma3": Small(
        "gemma3",
        layers=7,
        heads_kv=1,
        keys={
            "attention.sliding_window": 40,
            "rope.freq_base": 1000000.0,
            "attention.key_length": 32,
            "attention.value_length": 32,
        },
        without=("output.weight",),
    ),
    "ernie4_5": Small("ernie4_5", keys={"attention.key_length": 32, "attention.value_length": 32}),
    "qwen3moe": Small("qwen3moe", keys={**_MIXTURE, "expert_feed_forward_length": 32}),
}


def metadata(small: Small) -> list[KV]:
    """The keys that llama.cpp needs, and a vocabulary of bytes that any text has one token a byte of."""
    name = small.architecture
    tokens = [_CHARACTERS[byte] for byte in range(256)] + [_CHARACTERS[0] * 2, "<s>"]
    sizes = {
        "context_length": 256,
        "embedding_length": small.embd,
        "block_count": small.layers,
        "feed_forward_length": small.ff,
        "attention.head_count": small.heads,
        "attention.head_count_kv": small.heads_kv,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.dimension_count": small.keys.get("attention.key_length", small.embd // small.heads),
        **small.keys,
    }
    return [
        kv("general.architecture", name),
        kv("general.name", "small"),
        *(kv(f"{name}.{key}", value) for key, value in sizes.items()),
        kv("tokenizer.ggml.model", "gpt2"),
        kv("tokenizer.ggml.pre", "default"),
        kv("tokenizer.ggml.tokens", tokens),
        kv("tokenizer.ggml.token_type", [1] * 257 + [3]),
        kv("tokenizer.ggml.merges", [f"{_CHARACTERS[0]} {_CHARACTERS[0]}"]),
        kv("tokenizer.ggml.bos_token_id", 257),
        kv("tokenizer.ggml.eos_token_id", 257),
        kv("tokenizer.ggml.add_bos_token", small.architecture == "gemma3"),
    ]


def weights(small: Small) -> Iterator[tuple[str, tuple[int, ...], NDArray[np.float32]]]:
    """(name, shape in ggml's order, values): norms and factors about 1, everything else about 0."""
    found = hyper("", {entry.key: entry for entry in metadata(small)}, VOCABULARY)
    state = np.random.PCG64(7)
    every = lines(found.row, found.sizes, found.n_layer + found.n_next)
    beside = {name for name, line, _ in every if line.optional and not line.source and line.asked is None}
    for name, shape, optional in expected(found):
        if name in beside:  # no converter of ours writes it
            continue
        raw = state.random_raw(int(np.prod(shape))).astype(np.uint64)
        if optional and any(part in name for part in small.without):
            continue
        unit = ((raw >> np.uint64(48)).astype(np.float32) - 32768) / 32768
        if name.startswith("rope_f"):
            values = np.linspace(1, 8, len(unit), dtype=np.float32)
        elif name.endswith("ssm_a"):
            values = -1 - unit / 2  # a decay
        elif "norm" in name:
            values = 1 + unit / 4
        else:
            values = unit * np.float32(0.35 if len(shape) > 1 else 0.5)
        yield name, shape, values.reshape(tuple(reversed(shape))).astype(np.float32)


def write(small: Small, path: Path) -> Path:
    """The model as a GGUF file; matrices have the model's type (F32, F16 or BF16 by truncation)."""
    tensors = list(weights(small))
    described = [(name, shape, TYPES[small.type if len(shape) > 1 else "F32"]) for name, shape, _ in tensors]
    with Writer(path, metadata(small), described) as writer:
        for (_, _, values), (_, _, type_) in zip(tensors, described, strict=True):
            writer.append(encoded(values, type_.name).view(np.uint8).reshape(-1))
    return path


# A mixture of experts whose rows are whole blocks of every type, and of which no text reaches the last two experts.
MIXTURE = replace(MODELS["qwen3moe"], layers=1, embd=256, keys={**_MIXTURE, "expert_feed_forward_length": 256})
STACKS = [f"blk.0.ffn_{part}_exps.weight" for part in ("down", "gate", "up")]


def write_mixture(path: Path) -> Path:
    """MIXTURE in F32. Rows of the router from the fourth on are zero; ties go to the lowest, and three of eight are
    chosen: never the last two."""
    tensors = [(name, shape, values.copy()) for name, shape, values in weights(MIXTURE)]
    with Writer(path, metadata(MIXTURE), [(name, shape, TYPES["F32"]) for name, shape, _ in tensors]) as writer:
        for name, _, values in tensors:
            if "ffn_gate_inp" in name:
                values[3:] = 0
            writer.append(values.view(np.uint8).reshape(-1))
    return path


def sparse(small: Small, path: Path) -> Path:
    """A model of F32 whose matrices have only their first rows; the rest of the file is a hole of zeros."""
    found = hyper("", {entry.key: entry for entry in metadata(small)}, VOCABULARY)
    shapes = [(name, shape) for name, shape, optional in expected(found) if not optional]
    head, infos = header(metadata(small), [(name, shape, TYPES["F32"]) for name, shape in shapes])
    state = np.random.PCG64(7)
    with path.open("wb") as file:
        file.write(head)
        for info in infos:
            columns = info.shape[0]
            raw = state.random_raw(columns * (16 if len(info.shape) > 1 else 1)) >> np.uint64(48)
            unit = (raw.astype(np.float32) - 32768) / 32768
            file.seek(len(head) + info.offset)
            file.write((1 + unit / 4 if "norm" in info.name else unit / 16).astype(np.float32).tobytes())
        file.truncate(len(head) + infos[-1].offset + infos[-1].nbytes)
    return path


def encoded(values: NDArray[np.float32], type_: str) -> NDArray[Any]:
    if type_ == "BF16":
        return (values.view(np.uint32) >> 16).astype(np.uint16)
    return values.astype({"F32": np.float32, "F16": np.float16}[type_])


def text(length: int = LENGTH * CHUNKS) -> str:
    """Letters and spaces; its tokens are its bytes."""
    draws = np.random.PCG64(11).random_raw(length) >> np.uint64(58)
    return "".join("etaoin shrdlu"[int(draw) % 13] for draw in draws)


def chunks(small: Small, length: int = LENGTH, count: int = CHUNKS) -> NDArray[np.int32]:
    """The text's tokens as the model sees them. A tokenizer that begins a text with a token has one token more, and
    each chunk's first one is replaced."""
    tokens = np.frombuffer(text(length * count).encode(), np.uint8).astype(np.int32)
    if small.architecture == "gemma3":
        tokens = np.concatenate([np.array([257], np.int32), tokens])[: length * count]
    found = np.ascontiguousarray(tokens.reshape(count, length))
    if small.architecture == "gemma3":
        found[:, 0] = 257
    return found
