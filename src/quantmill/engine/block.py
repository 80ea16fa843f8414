"""The work of one layer: the operations of its architecture, in order, on whole chunks of the text.

Source of what is computed, in which order: the graphs of llama-model.cpp and llama-graph.cpp at b5490.
"""

from collections.abc import Callable
from typing import Any

from quantmill import _kernels
from quantmill.architectures.operations import (
    Add,
    Attend,
    AttendCompressed,
    DeltaNet,
    Experts,
    Feed,
    Norm,
    Scan,
    ShortConvolve,
)
from quantmill.engine.buffers import Floats
from quantmill.engine.layer import LayerWeights, Taps
from quantmill.engine.parts.attention import attend
from quantmill.engine.parts.compressed import attend_compressed
from quantmill.engine.parts.experts import mixture
from quantmill.engine.parts.feed import feed
from quantmill.engine.parts.recurrent import delta_net, scan, short_convolve
from quantmill.engine.parts.rows import Rows
from quantmill.engine.positions import Positions


def push(layer: LayerWeights, x: Floats, positions: Positions, importance: Taps | None, wanted: bool = True) -> None:
    """Replaces the states of whole chunks, shape (m, n_embd), by the layer's; where they are not wanted, goes only
    as far as the importance needs it."""
    if not layer.operations:
        return  # one that predicts a token more
    normed = layer.space.floats("normed", *x.shape)
    rows = Rows(layer, positions, importance, states=x, normed=normed, change=None)
    last = max(index for index, operation in enumerate(layer.operations) if not isinstance(operation, Norm | Add))
    for index, operation in enumerate(layer.operations):
        rows.wanted = wanted or index != last
        _WORK[type(operation)](rows, operation)


def _norm(rows: Rows, operation: Norm) -> None:
    if operation.of == "states":
        rows.layer.norm(operation.name, rows.states, rows.normed, operation.kind)
    elif rows.change is not None:
        rows.layer.norm(operation.name, rows.change, rows.change, operation.kind)


def _add(rows: Rows, operation: Add) -> None:
    scale = rows.layer.hyper.numbers.get("residual_scale") if operation.scaled else None
    if rows.change is not None:
        if scale:
            _kernels.scale(rows.change, scale, rows.layer.run.threads)
        _kernels.add(rows.states, rows.change, rows.states, rows.layer.run.threads)


_WORK: dict[type, Callable[[Rows, Any], None]] = {
    Norm: _norm,
    Attend: attend,
    AttendCompressed: attend_compressed,
    Feed: feed,
    Experts: mixture,
    ShortConvolve: short_convolve,
    Scan: scan,
    DeltaNet: delta_net,
    Add: _add,
}
