"""The feed-forward part of a layer that is one for all tokens."""

import numpy as np

from quantmill import _kernels
from quantmill.architectures.operations import Feed
from quantmill.engine.buffers import Floats
from quantmill.engine.parts.rows import Rows


def feed(rows: Rows, operation: Feed) -> None:
    """The change is what the matrices make of the rows."""
    layer, x = rows.layer, rows.seen(operation.of)
    gate = _between(rows, operation, x)
    down = f"ffn_down{operation.part}"
    layer.tap(rows.importance, down, gate)
    if operation.shared:
        layer.tap(rows.importance, "ffn_gate_inp_shexp", x)
    if not rows.wanted:
        rows.change = None
        return
    rows.change = layer.product(down, gate)
    if operation.shared:
        share = layer.product("ffn_gate_inp_shexp", x)
        _kernels.activate("sigmoid", share, share, layer.run.threads)
        _kernels.scale_rows(rows.change, np.ascontiguousarray(share[:, 0]), layer.run.threads)


def _between(rows: Rows, operation: Feed, x: Floats) -> Floats:
    """What the last matrix sees."""
    layer = rows.layer
    names = [f"ffn_gate{operation.part}", f"ffn_up{operation.part}"]
    if not operation.gated:
        layer.tap(rows.importance, names[1], x)
        up = layer.product(names[1], x)
        _kernels.activate(operation.activation, up, up, layer.run.threads)
        return up
    if operation.fused:
        layer.tap(rows.importance, "ffn_up", x)
        both = layer.product("ffn_up", x)
        half = both.shape[1] // 2
        gate, up = layer.space.floats("ffn_gate", len(x), half), layer.space.floats("ffn_split", len(x), half)
        gate[:], up[:] = both[:, :half], both[:, half:]
    else:
        layer.tap(rows.importance, " ".join(names), x)
        gate, up = layer.products(names, x)
    layer.activate(operation.activation, gate, up)
    return gate
