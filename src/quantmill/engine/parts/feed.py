"""The feed-forward part of a layer that is one for all tokens."""

import numpy as np

from quantmill import _kernels
from quantmill.architectures.operations import Activation, Feed
from quantmill.engine.buffers import Floats
from quantmill.engine.parts.row_sums import row_sums
from quantmill.engine.parts.rows import Rows

_DEVIATIONS = np.float32(1.6448533535003662)  # of a sparse layer's bound: llama.cpp's, whatever a file says


def feed(rows: Rows, operation: Feed) -> None:
    """The change is what the matrices make of the rows."""
    layer, x = rows.layer, rows.seen(operation.of)
    sparse = operation.sparse(layer.sizes, layer.index)
    seen = between(rows, x, operation.activation, gated=operation.gated, fused=operation.fused, sparse=sparse)
    layer.tap(rows.importance, "ffn_down", seen)
    rows.change = layer.product("ffn_down", seen) if rows.wanted else None


def between(
    rows: Rows,
    x: Floats,
    activation: Activation,
    *,
    gated: bool,
    fused: bool = False,
    sparse: bool = False,
    part: str = "",
) -> Floats:
    """What the last matrix sees, of operations.Feed's fields; `part`: what the matrices' names have behind them."""
    layer = rows.layer
    names = [f"ffn_gate{part}", f"ffn_up{part}"]
    if not gated:
        layer.tap(rows.importance, names[1], x)
        up = layer.product(names[1], x)
        _kernels.activate(activation, up, up, layer.run.threads)
        return up
    if fused:
        layer.tap(rows.importance, "ffn_up", x)
        both = layer.product("ffn_up", x)
        half = both.shape[1] // 2
        gate, up = layer.space.floats("ffn_gate", len(x), half), layer.space.floats("ffn_split", len(x), half)
        gate[:], up[:] = both[:, :half], both[:, half:]
    else:
        layer.tap(rows.importance, " ".join(names), x)
        gate, up = layer.products(names, x)
    if sparse:
        _thin(gate, layer.run.threads)
    layer.activate(activation, gate, up)
    return gate


def _thin(gate: Floats, threads: int) -> None:
    """What of each number is above a bound, by the mean and the deviation of its row."""
    count = gate.shape[1]
    mean = row_sums(gate, threads) / np.float32(count)
    gate -= mean[:, None]
    deviation = np.sqrt(row_sums(gate * gate, threads) / np.float32(count - 1))
    gate -= (deviation * _DEVIATIONS)[:, None]
    np.maximum(gate, 0, out=gate)
