"""The feed-forward part of a layer that is one for all tokens."""

from quantmill import _kernels
from quantmill.architectures.operations import Activation, Feed
from quantmill.engine.buffers import Floats
from quantmill.engine.parts.rows import Rows


def feed(rows: Rows, operation: Feed) -> None:
    """The change is what the matrices make of the rows."""
    layer, x = rows.layer, rows.seen(operation.of)
    seen = between(rows, x, operation.activation, gated=operation.gated, fused=operation.fused)
    layer.tap(rows.importance, "ffn_down", seen)
    rows.change = layer.product("ffn_down", seen) if rows.wanted else None


def between(
    rows: Rows, x: Floats, activation: Activation, *, gated: bool, fused: bool = False, part: str = ""
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
    layer.activate(activation, gate, up)
    return gate
