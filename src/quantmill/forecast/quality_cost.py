"""What measuring a recipe's files will take: the base's predictions, how far each file is from them, and speeds.

Seconds are those of one thread on this machine; estimates within a factor of two.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from quantmill.forecast.imatrix_cost import chunk_count, facts_of
from quantmill.forecast.kept_rates import kept, timed
from quantmill.gguf import KV
from quantmill.gguf.layout import TensorEntry
from quantmill.recipe import texts
from quantmill.recipe.lock import Lock
from quantmill.recipe.recipe import Recipe

SAMPLE = 1 << 20  # weights of a tensor that the quality step compares (quality/tensors.py)
SAMPLED_WEIGHTS = 5e7  # of them a second: dequantized and compared in numpy, by one thread
LOADED_BYTES = 5e8  # of a file a second, read and interleaved
WARM_UP = 65  # tokens that a file just loaded evaluates
LEAST_SECONDS = 0.01
_ROWS, _COLUMNS, _PROMPT = 512, 2048, 64  # of a sample's matrix, and of a prompt's batch

# (arithmetic) → additions and multiplications of a product that one thread does in a second.
Speed = Callable[[str], float]


@dataclass(frozen=True)
class QualityCost:
    """What measuring quality takes.

    `tokens`: 0 where nothing is known of the text yet
    `chunks`: 0 where nothing is known of the text yet
    `exact`: tokens and chunks were counted, not estimated
    `base`: seconds of the base's own predictions
    `files`: seconds of each file's comparison with them, by label
    `states`: bytes that the base's predictions take
    `base_memory`, `memory`: of the base's predictions, and of a file's beside them, in bytes
    """

    tokens: int
    chunks: int
    n_ctx: int
    exact: bool
    base: float
    files: Mapping[str, float]
    states: int
    base_memory: int
    memory: int

    def data(self, threads: int) -> dict[str, Any]:
        """As plain JSON, with seconds over so many threads."""
        return {
            "tokens": self.tokens,
            "chunks": self.chunks,
            "n_ctx": self.n_ctx,
            "exact": self.exact,
            "base_seconds": round(self.base / threads, 1),
            "files_seconds": round(sum(self.files.values()) / threads, 1),
        }


def logit_seconds() -> float:
    """Seconds that one thread takes to compare one logit of base and file."""
    return 1 / kept("logits compared", _logits)


def _logits() -> float:
    import numpy as np

    from quantmill import _kernels

    random = np.random.default_rng(1)
    base, other = (random.normal(0, 3, (16, 8192)).astype(np.float32) for _ in range(2))
    out, top, targets = np.empty(16), np.empty(16, np.int32), np.zeros(16, np.int32)

    def compare() -> None:
        _kernels.kld(base, other, out, 1)
        for logits in (base, other):
            _kernels.nll(logits, targets, out, top, 1)

    return base.size / timed(compare, LEAST_SECONDS)


def weight_seconds(type_: str) -> tuple[float, float]:
    """Seconds that one thread takes for a weight of the type: for a token of a prompt, and for one alone."""
    from quantmill import _kernels

    if type_ not in _kernels.infer_types():
        return 0.0, 0.0  # the build will say that it cannot be run
    many = kept(f"infer {type_} prompt", lambda: _weights(type_, _PROMPT))
    return 1 / many, 1 / kept(f"infer {type_} token", lambda: _weights(type_, 1))


def _weights(type_: str, tokens: int) -> float:
    """Weights a second, each multiplied for so many tokens at once."""
    import numpy as np

    from quantmill import _kernels
    from quantmill.forecast.quantize_rates import NEED_IMPORTANCE
    from quantmill.gguf.types import TYPES

    random = np.random.default_rng(1)
    weights = random.normal(0, 0.02, (_ROWS, _COLUMNS)).astype(np.float32)
    data = weights.view(np.uint8).reshape(-1)
    if type_ != "F32":
        data = np.empty(_ROWS * TYPES[type_].row_bytes(_COLUMNS), np.uint8)
        importance = np.ones(_COLUMNS, np.float32) if type_ in NEED_IMPORTANCE else None
        _kernels.quantize(type_, weights, data, importance)
    matrix = _kernels.Matrix(type_, data, _ROWS, _COLUMNS)
    x, out = random.normal(0, 1, (tokens, _COLUMNS)).astype(np.float32), np.empty((tokens, _ROWS), np.float32)
    return tokens * weights.size / timed(lambda: matrix.multiply(x, out), LEAST_SECONDS)


def quality_cost(
    recipe: Recipe,
    lock: Lock,
    kvs: Sequence[KV],
    tensors: Sequence[TensorEntry],
    files: Mapping[str, Sequence[TensorEntry]],
    speed: Speed,
    otherwise: int = 0,
    compared: Callable[[], float] = logit_seconds,
) -> QualityCost | None:
    """Of a recipe whose base has the metadata `kvs` and `tensors`, and whose quantized files have `files` by label;
    None when it measures no quality. `otherwise` is the number of tokens where nothing is known of the text."""
    table = recipe.evaluation
    if table is None:
        return None
    from quantmill.forecast.evaluation_rates import BESIDE, memory, weigh

    named = list(texts.evaluation(recipe).values())
    chunks, exact = chunk_count(recipe, named, lock.evaluation, kvs, table.n_ctx, 0, table.chunks)
    chunks = chunks or otherwise // table.n_ctx
    tokens = chunks * table.n_ctx
    work = weigh(tensors, facts_of(kvs), table.n_ctx)
    counted = chunks * (table.n_ctx - 1 - table.n_ctx // 2)
    width, vocabulary = next((shape[0], shape[1]) for name, shape, _ in tensors if name == "token_embd.weight")
    product = speed(table.arithmetic) / BESIDE
    base = work.products * tokens / product
    # The base's logits are made again for each file from its stored states, and both are compared.
    again = counted * vocabulary * (2 * width / product + compared())
    sampled = {
        label: sum(
            min(prod(shape), SAMPLE)
            for (_, shape, own), (_, _, type_) in zip(_by_name(tensors), _by_name(file), strict=True)
            if own is not type_
        )
        for label, file in files.items()
    }
    each = {label: base + again + count / SAMPLED_WEIGHTS for label, count in sampled.items()}
    alone, both = (memory(work, tokens, table.memory, models) for models in (1, 2))
    return QualityCost(tokens, chunks, table.n_ctx, exact, base, each, 4 * width * counted, alone, both)


def bench_seconds(
    recipe: Recipe,
    kvs: Sequence[KV],
    tensors: Sequence[TensorEntry],
    files: Mapping[str, Sequence[TensorEntry]],
    passed: Callable[[str], tuple[float, float]] = weight_seconds,
) -> float | None:
    """Seconds that the tests of speed of the recipe's [bench] take, at the speed of these kernels; None without one."""
    table = recipe.bench
    if table is None:
        return None
    facts = facts_of(kvs)
    count, used = (float(facts.get(key, 1)) for key in ("expert_count", "expert_used_count"))
    prompt = sum(int(test[2:]) for test in table.tests if test.startswith("pp"))
    single = sum(int(test[2:]) for test in table.tests if test.startswith("tg"))
    known: dict[str, tuple[float, float]] = {}
    found = 0.0
    for label in table.ftypes:
        size = 0
        for name, shape, type_ in files.get(label, tensors):
            weights = prod(shape)
            size += weights // type_.block * type_.size
            if len(shape) < 2 or name == "token_embd.weight":
                continue
            if type_.name not in known:
                known[type_.name] = passed(type_.name)
            many, one = known[type_.name]
            share = used / count if len(shape) > 2 else 1.0
            tokens = table.repetitions * (prompt * many + single * one) + WARM_UP * many
            found += weights * share * tokens
        found += size / LOADED_BYTES
    return found


def _by_name(tensors: Sequence[TensorEntry]) -> list[TensorEntry]:
    return sorted(tensors, key=lambda described: described[0])
