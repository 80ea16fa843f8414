"""The feed-forward part of a layer that is one for all tokens."""

from quantmill import _kernels
from quantmill.architectures.operations import Feed
from quantmill.engine.parts.rows import Rows


def feed(rows: Rows, operation: Feed) -> None:
    """The change is what the gated matrices make of the rows."""
    layer, x = rows.layer, rows.seen(operation.of)
    if not operation.gated:
        layer.tap(rows.importance, "ffn_up", x)
        up = layer.product("ffn_up", x)
        _kernels.activate(operation.activation, up, up, layer.run.threads)
        layer.tap(rows.importance, "ffn_down", up)
        rows.change = layer.product("ffn_down", up) if rows.wanted else None
        return
    if operation.fused:
        layer.tap(rows.importance, "ffn_up", x)
        both = layer.product("ffn_up", x)
        half = both.shape[1] // 2
        gate, up = layer.space.floats("ffn_gate", len(x), half), layer.space.floats("ffn_split", len(x), half)
        gate[:], up[:] = both[:, :half], both[:, half:]
    else:
        layer.tap(rows.importance, "ffn_gate ffn_up", x)
        gate, up = layer.products(["ffn_gate", "ffn_up"], x)
    layer.activate(operation.activation, gate, up)
    layer.tap(rows.importance, "ffn_down", gate)
    rows.change = layer.product("ffn_down", gate) if rows.wanted else None
