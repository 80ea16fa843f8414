"""What an importance matrix says of its tensors: upstream's `--show-statistics`, in numbers.

Each tensor has, over the mean squared inputs of all its columns, their sum, least, largest, mean and standard
deviation, and the share above 1e-5 (active). It has their entropy in bits, as a distribution over columns, and its
share of the greatest possible. It has the share more than one standard deviation above the mean (z-score density). And
it has the cosine between its sums and those of the same tensor one layer below. For each layer, the means of sum,
density and cosine, weighted by columns. Source: llama.cpp's imatrix.cpp, since pull request 12718; here in float64.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from quantmill.imatrix.sums import Sum, Sums

ACTIVE = 1e-5


@dataclass(frozen=True)
class TensorStatistics:
    """One tensor's statistics. `layer` is None outside layers; shares are between 0 and 1; `cosine` is 0 where there is
    nothing to compare with."""

    layer: int | None
    tensor: str
    total: float
    least: float
    largest: float
    mean: float
    deviation: float
    active: float
    columns: int
    entropy: float
    entropy_share: float
    density: float
    cosine: float


@dataclass(frozen=True)
class LayerStatistics:
    """One layer's means over its tensors, weighted by their columns."""

    layer: int
    total: float
    density: float
    cosine: float


def rows(sums: Sums) -> list[TensorStatistics]:
    """A row for each tensor: by the tensor's name without its layer, then the largest total first."""
    found = [_row(name, sum_, sums) for name, sum_ in sums.tensors.items()]
    return sorted(found, key=lambda row: (row.tensor, -row.total, -1 if row.layer is None else row.layer))


def layers(rows: Iterable[TensorStatistics]) -> list[LayerStatistics]:
    """The layers of `rows`, in order."""
    by_layer: dict[int, list[TensorStatistics]] = {}
    for row in rows:
        if row.layer is not None:
            by_layer.setdefault(row.layer, []).append(row)
    return [
        LayerStatistics(layer, *(_weighted(members, what) for what in ("total", "density", "cosine")))
        for layer, members in sorted(by_layer.items())
    ]


def _weighted(members: list[TensorStatistics], what: str) -> float:
    return float(sum(row.columns * getattr(row, what) for row in members) / sum(row.columns for row in members))


def _row(name: str, sum_: Sum, sums: Sums) -> TensorStatistics:
    counts = sum_.counts.reshape(-1, 1)
    values = (sum_.squares.astype(np.float64) / np.where(counts > 0, counts, 1)).reshape(-1)
    total, mean = float(values.sum()), float(values.mean())
    deviation = math.sqrt(max(0.0, float((values * values).mean()) - mean * mean))
    parts = values[values > 0] / total if total > 0 else values[:0]
    entropy = float(-(parts * np.log2(parts)).sum())
    above = float((values > mean + deviation).mean()) if deviation > 0 else 0.0
    found = re.search(r"blk\.(\d+)\.", name)
    words = name.split(".")
    return TensorStatistics(
        layer=int(found[1]) if found else None,
        tensor=words[words.index("weight") - 1] if "weight" in words[1:] else name,
        total=total,
        least=float(values.min()),
        largest=float(values.max()),
        mean=mean,
        deviation=deviation,
        active=float((values > ACTIVE).mean()),
        columns=values.size,
        entropy=entropy,
        entropy_share=entropy / math.log2(values.size) if values.size > 1 else 0.0,
        density=above,
        cosine=_cosine(sum_, sums.tensors.get(_below(name, found))),
    )


def _below(name: str, layer: re.Match[str] | None) -> str:
    return "" if layer is None else f"{name[: layer.start(1)]}{int(layer[1]) - 1}{name[layer.end(1) :]}"


def _cosine(sum_: Sum, other: Sum | None) -> float:
    if other is None or other.squares.size != sum_.squares.size:
        return 0.0
    first, second = (part.squares.astype(np.float64).reshape(-1) for part in (sum_, other))
    lengths = math.sqrt(float(first @ first)) * math.sqrt(float(second @ second))
    return float(first @ second) / lengths if lengths else 0.0
