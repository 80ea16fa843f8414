"""How long a text's way through a model takes here, and in what memory, from the model's shape alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quantmill.forecast.kept_rates import kept, timed
from quantmill.gguf.types import TYPES, Type

LEAST_SECONDS = 0.02
ROWS = 512  # tokens that a sample pushes through a matrix
# What norms, attention's softmax, activations and packing take beside the products, about.
BESIDE = 1.3
PROCESS = 100_000_000  # bytes of interpreter, tables and buffers


@dataclass(frozen=True)
class Work:
    """The work of an evaluation.

    `products`: multiplications and additions for one token
    `layer`: weights of the largest layer
    `columns`: of a typical matrix
    `rows`: of a typical matrix
    `width`: the model's
    `output`: weights of the matrix that predicts, 0 where nothing is predicted
    `counted`: predictions of a chunk that count
    `type`: what the weights of a typical matrix are
    """

    products: float
    layer: int
    columns: int
    rows: int
    width: int
    output: int
    counted: int
    type: str


_SMALL = Work(products=0.0, layer=0, columns=512, rows=512, width=512, output=0, counted=0, type="BF16")


def weigh(
    tensors: Sequence[tuple[str, tuple[int, ...], Type]], facts: Mapping[str, Any], n_ctx: int, perplexity: bool = True
) -> Work:
    """The work of measuring a model's importance and, if wanted, the text's perplexity. `facts` are metadata by key
    without the architecture's name: `attention.head_count`, `expert_used_count`."""
    products = 0.0
    layers: dict[str, int] = {}
    largest = (0, 1, 1, "F32")
    width = 1
    output = 0
    for name, shape, type_ in tensors:
        if len(shape) < 2 or name == "per_layer_token_embd.weight":  # whose rows are looked up
            continue
        count = shape[0] * shape[1] * (shape[2] if len(shape) > 2 else 1)
        if name in ("token_embd.weight", "output.weight"):
            output, width = shape[0] * shape[1], shape[0]
            continue
        used = _size(facts, "expert_used_count", 1) / shape[2] if len(shape) > 2 else 1.0
        products += 2 * count * used
        layer = name.split(".")[1] if name.startswith("blk.") else ""
        layers[layer] = layers.get(layer, 0) + count
        largest = max(largest, (shape[0] * shape[1], shape[0], shape[1], type_.name))
    heads = _size(facts, "attention.head_count", 1)
    head = _size(facts, "attention.key_length", width // heads)
    products += 4 * heads * head * (n_ctx / 2) * len(layers)  # half of the square: later tokens are not seen
    counted = n_ctx - 1 - n_ctx // 2  # a chunk's second half
    output = output if perplexity else 0
    products += 2 * output * counted / n_ctx
    most = max(layers.values(), default=0)
    return Work(products, most, largest[1], largest[2], width, output, counted, largest[3])


def _size(facts: Mapping[str, Any], key: str, default: int) -> int:
    """Of a list with one for every layer, the first: those that can be measured are all the same. `default` for what is
    no size; what is wrong with it is told when the model is measured."""
    value = facts.get(key)
    if isinstance(value, list) and value:
        value = value[0]
    return value if isinstance(value, int) and value > 0 else default


def seconds(work: Work, tokens: int, arithmetic: str, threads: int) -> float:
    """Of so many tokens, at the speed of a product; an estimate within a factor of two."""
    return BESIDE * work.products * tokens / (rate(work, arithmetic) * threads)


def rate(work: Work, arithmetic: str) -> float:
    """Products a second that one thread reaches with a matrix like the model's. By processor time, so that a busy
    machine is not taken for a slow one."""
    columns, rows = min(work.columns, 4096), min(work.rows, 2048)
    name = f"product {arithmetic} {work.type} {columns} x {rows}"
    return kept(name, lambda: _measured(work.type, columns, rows, arithmetic))


def _measured(type_: str, columns: int, rows: int, arithmetic: str) -> float:
    import numpy as np

    from quantmill import _kernels

    random = np.random.default_rng(1)
    weights = random.normal(0, 0.02, (rows, columns)).astype(np.float32)
    data = weights.view(np.uint8).reshape(-1)
    if type_ != "F32":
        data = np.empty(rows * TYPES[type_].row_bytes(columns), np.uint8)
        _kernels.quantize(type_, weights, data, None)
    packed = _kernels.pack(type_, data, rows, columns, arithmetic, 1)  # type: ignore[arg-type]  # the caller has checked it
    x = random.normal(0, 1, (ROWS, columns)).astype(np.float32)
    out = np.empty((ROWS, rows), np.float32)
    spent = timed(lambda: _kernels.matmul(x, packed, out, 1), LEAST_SECONDS)
    return 2.0 * ROWS * rows * columns / spent


def speed(arithmetic: str) -> float:
    """Products a second that one thread reaches with matrices of a small model."""
    return rate(_SMALL, arithmetic)


def memory(work: Work, tokens: int, limit: int, models: int = 1) -> int:
    """Bytes that it takes, with so many models at once: the process, the activations of all tokens, and what is more:
    a layer's packed weights, or each output matrix with a chunk's logits. At most `limit`, past which weights are
    packed in parts and activations go to a file."""
    logits = 4 * (work.output // work.width + 4 * work.width) * work.counted if work.output else 0
    predicting = models * (4 * work.output + logits)
    return min(limit, PROCESS + max(4 * work.layer, predicting) + 4 * work.width * tokens)
