"""How much there is to quantize, and how long it takes here: weights by type, and rates of this machine."""

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

from quantmill.forecast.kept_rates import kept, timed
from quantmill.quant.file_plan import FilePlan

COLUMNS, ROWS = 2048, 16  # a sample large enough to fill the lanes of every kernel
LEAST_SECONDS = 0.004
NEED_IMPORTANCE = frozenset({"IQ1_M", "IQ1_S", "IQ2_S", "IQ2_XS", "IQ2_XXS"})  # they cannot be timed without


@dataclass(frozen=True)
class QuantizeWork:
    """`computed`: type name → weights; `shared`: weights that an earlier file of the matrix holds in the same type."""

    computed: Mapping[str, int]
    shared: int


def quantize_work(files: Iterable[FilePlan], keep: int | None = None) -> QuantizeWork:
    """What a matrix of files of one base and imatrix comes to: a (tensor, type) is computed where no earlier file has
    it. No more than `keep` files are there at a time, the new one among them (None: all)."""
    computed: Counter[str] = Counter()
    shared = 0
    seen: deque[set[tuple[str, str]]] = deque(maxlen=None if keep is None else keep - 1)
    for file in files:
        own: set[tuple[str, str]] = set()
        for name, shape, type_ in file.tensors:
            if file.sources[name] == type_:
                continue
            count, pair = prod(shape), (name, type_.name)
            own.add(pair)
            if any(pair in there for there in seen):
                shared += count
            else:
                computed[type_.name] += count
        seen.append(own)
    return QuantizeWork(computed, shared)


def seconds(computed: Mapping[str, int], with_importance: bool) -> float:
    """Seconds of one thread for so many weights of each type, at the rates that the kernels reach here."""
    return sum(count / rate(type_, with_importance) for type_, count in computed.items())


def rate(type_: str, with_importance: bool) -> float:
    """Weights a second of one thread, on weights like a model's."""
    with_importance |= type_ in NEED_IMPORTANCE
    name = f"quantize {type_} {'with' if with_importance else 'without'} importance"
    return kept(name, lambda: _measured(type_, with_importance))


def _measured(type_: str, with_importance: bool) -> float:
    import numpy as np

    from quantmill import _kernels
    from quantmill.gguf.types import TYPES

    random = np.random.default_rng(1)
    weights = random.normal(0, 0.02, (ROWS, COLUMNS)).astype(np.float32)
    importance = random.gamma(1.0, 1.0, COLUMNS).astype(np.float32) if with_importance else None
    out = np.empty(ROWS * TYPES[type_].row_bytes(COLUMNS), np.uint8)
    return weights.size / timed(lambda: _kernels.quantize(type_, weights, out, importance), LEAST_SECONDS)
