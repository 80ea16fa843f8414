"""A model's size in memory: what its context takes, and how a file's weights lie over its layers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from quantmill.gguf.layout import TensorEntry
from quantmill.gguf.values import KV

CACHE_BYTES = 2  # of one number in the KV cache: F16, llama.cpp's default
BATCH = 512  # tokens that llama.cpp computes at once (its -ub)
FLOAT = 4
MOST_LAYERS = 10_000  # more are a damaged file's


@dataclass(frozen=True)
class Shape:
    """What of an architecture decides memory beside the weights. `cache` is numbers in the KV cache for one token in
    one layer, keys and values together; `context` is the longest context that the model was made for, 0 if unknown."""

    layers: int
    heads: int
    cache: int
    width: int
    feed_forward: int
    vocabulary: int
    context: int

    def cache_bytes(self, context: int) -> int:
        """The KV cache of one layer."""
        return context * self.cache * CACHE_BYTES

    def buffer_bytes(self, context: int, flash: bool) -> int:
        """The compute buffer of one device, from above: a batch's logits or, without flash attention, its attention
        scores, whichever are more, beside its activations."""
        logits = BATCH * self.vocabulary * FLOAT
        scores = 0 if flash else BATCH * self.heads * context * FLOAT
        return max(logits, scores) + BATCH * (4 * self.width + 2 * self.feed_forward) * FLOAT


def from_metadata(values: Mapping[str, Any]) -> Shape | None:
    """The shape that a GGUF file's `<arch>.*` entries tell; None when they do not tell enough.

    Where heads or feed-forward lengths differ by layer the largest counts, so that memory is never taken for less.
    """
    arch = values.get("general.architecture")

    def number(key: str, default: int = 0) -> int:
        value = values.get(f"{arch}.{key}", default)
        items = value if isinstance(value, list) and value else [value]
        return max(item if isinstance(item, int) and not isinstance(item, bool) else 0 for item in items)

    layers, width, heads = number("block_count"), number("embedding_length"), number("attention.head_count")
    if not (0 < layers <= MOST_LAYERS and width > 0 and heads > 0):
        return None
    groups = number("attention.head_count_kv", heads) or heads
    key = number("attention.key_length") or width // heads
    value = number("attention.value_length") or key
    vocabulary = values.get("vocabulary") or number("vocab_size")
    return Shape(
        layers=layers,
        heads=heads,
        cache=groups * (key + value),
        width=width,
        feed_forward=max(number("feed_forward_length"), number("expert_feed_forward_length")),
        vocabulary=int(vocabulary),
        context=number("context_length"),
    )


def of_file(kvs: Iterable[KV], tensors: Iterable[TensorEntry]) -> Shape | None:
    """What a file's metadata tell; the vocabulary's length is the token embedding's."""
    metadata = {entry.key: entry.value for entry in kvs if not entry.key.startswith("tokenizer")}
    embedding = next((shape for name, shape, _ in tensors if name == "token_embd.weight"), (0, 0))
    return from_metadata(metadata | {"vocabulary": embedding[-1]})


@dataclass(frozen=True)
class WeightBytes:
    """A file's bytes as llama.cpp places them.

    `input`: the token embedding's, which stay in main memory
    `layers`: those of each layer
    `output`: those that go where the last layer's result goes
    `unsure`: what of `layers` may belong to the input and the output, where only the file's size is known
    """

    input: int
    layers: tuple[int, ...]
    output: int
    unsure: int = 0

    @property
    def total(self) -> int:
        """All weights once."""
        return self.input + sum(self.layers) + self.output


def of_tensors(tensors: Iterable[TensorEntry], layers: int) -> WeightBytes:
    """From the tensors themselves. Tied embeddings lie in both places: in main memory for the input, beside the last
    layer for the output."""
    by_layer, rest = [0] * layers, {"token_embd": 0, "output": 0}
    for name, shape, type_ in tensors:
        size = prod(shape) // type_.block * type_.size
        first, _, after = name.partition(".")
        number = after.partition(".")[0]
        if first == "blk" and number.isdecimal() and int(number) < layers:
            by_layer[int(number)] += size
        else:
            rest["token_embd" if first == "token_embd" else "output"] += size
    tied = not any(name == "output.weight" for name, _, _ in tensors)
    return WeightBytes(rest["token_embd"], tuple(by_layer), rest["output"] + (rest["token_embd"] if tied else 0))


def of_size(size: int, shape: Shape, embedding: int = 0) -> WeightBytes:
    """From the file's size alone, spread over the layers: a layer is taken for larger than it is. `embedding` is what
    of it is surely the token embedding's, and not the output's too."""
    each = -(-(size - embedding) // shape.layers)
    most = 2 * shape.vocabulary * shape.width * 17 // 16  # of both in Q8_0, the largest that quantized files have
    return WeightBytes(embedding, (each,) * shape.layers, 0, min(most, size))
