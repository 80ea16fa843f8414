"""The work of one layer: the operations of its architecture, in order, on whole chunks of the text.

Source of what is computed, in which order: the graphs of llama-model.cpp and llama-graph.cpp at b5490.
"""

from collections.abc import Callable
from typing import Any

from quantmill import _kernels
from quantmill.architectures.operations import (
    Add,
    Aside,
    Attend,
    AttendCompressed,
    Correct,
    DeltaNet,
    Experts,
    Feed,
    Join,
    Laurel,
    LayerInputs,
    Norm,
    Part,
    Predict,
    Scale,
    Scan,
    ShortConvolve,
)
from quantmill.engine.buffers import Floats
from quantmill.engine.layer import LayerWeights, Taps
from quantmill.engine.parts.altup import correct, laurel, predict
from quantmill.engine.parts.attention import attend
from quantmill.engine.parts.compressed import attend_compressed
from quantmill.engine.parts.experts import mixture
from quantmill.engine.parts.feed import feed
from quantmill.engine.parts.layer_inputs import layer_inputs
from quantmill.engine.parts.recurrent import delta_net, scan, short_convolve
from quantmill.engine.parts.rows import Rows
from quantmill.engine.positions import Positions


def push(layer: LayerWeights, x: Floats, positions: Positions, importance: Taps | None, wanted: bool = True) -> None:
    """Replaces the states of whole chunks, shape (m, all columns), by the layer's; where they are not wanted, goes only
    as far as the importance needs it."""
    if not layer.operations:
        return  # one that predicts a token more
    width, is_alone = layer.hyper.n_embd, x.shape[1] == layer.hyper.n_embd
    states = x if is_alone else layer.space.floats("states", len(x), width)
    if not is_alone:
        states[:] = x[:, :width]
    normed = layer.space.floats("normed", *states.shape)
    rows = Rows(layer, positions, importance, states=states, normed=normed, change=None, whole=x)
    last = max(index for index, operation in enumerate(layer.operations) if isinstance(operation, Part))
    for index, operation in enumerate(layer.operations):
        rows.wanted = wanted or index != last
        _WORK[type(operation)](rows, operation)
    if not is_alone:
        x[:, :width] = states


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
        if operation.to == "others":
            width = rows.states.shape[1]
            for begin in range(width, rows.layer.model.columns.sets * width, width):
                rows.whole[:, begin : begin + width] += rows.change
            return
        _kernels.add(rows.states, rows.change, rows.states, rows.layer.run.threads)


def _aside(rows: Rows, operation: Aside) -> None:
    rows.aside = rows.change


def _join(rows: Rows, operation: Join) -> None:
    if rows.change is not None and rows.aside is not None:
        _kernels.add(rows.aside, rows.change, rows.change, rows.layer.run.threads)


def _scale(rows: Rows, operation: Scale) -> None:
    vector = rows.layer.vector(f"{operation.by}.weight") if isinstance(operation.by, str) else None
    by = float(vector[0]) if vector is not None else operation.by
    if not isinstance(by, str):
        _kernels.scale(rows.states, by, rows.layer.run.threads)


_WORK: dict[type, Callable[[Rows, Any], None]] = {
    Norm: _norm,
    Attend: attend,
    AttendCompressed: attend_compressed,
    Feed: feed,
    Experts: mixture,
    ShortConvolve: short_convolve,
    Scan: scan,
    DeltaNet: delta_net,
    LayerInputs: layer_inputs,
    Laurel: laurel,
    Predict: predict,
    Correct: correct,
    Aside: _aside,
    Join: _join,
    Scale: _scale,
    Add: _add,
}
