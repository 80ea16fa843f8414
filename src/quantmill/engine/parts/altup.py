"""AltUp: several sets of states, of which one goes through a layer and tells how the others change; and Laurel.

Source: the graph of llama.cpp b11312 (gemma3n.cpp).
"""

from collections.abc import Iterator

import numpy as np

from quantmill import _kernels
from quantmill.architectures.operations import Correct, Laurel, Predict
from quantmill.engine.buffers import BufferPool, Floats
from quantmill.engine.matrix import Matrix
from quantmill.engine.model import Model
from quantmill.engine.parts.row_sums import row_sums
from quantmill.engine.parts.rows import Rows
from quantmill.engine.run import Run


def spread(model: Model, x: Floats, out: Floats, run: Run, step: int) -> None:
    """Fills all sets of states with what the embeddings make; each is as long as these."""
    width, length = x.shape[1], _length(x, run)
    out[:, :width] = x
    for index, made in _projected(model, "altup_proj.weight", [x] * (model.columns.sets - 1), run, step):
        out[:, (index + 1) * width : (index + 2) * width] = _as_long(made, length, run)


def merge(model: Model, states: Floats, run: Run, step: int) -> Floats:
    """What the output's norm sees: the mean of all sets, the others as long as the active one."""
    width, sets = model.hyper.n_embd, model.columns.sets
    out = np.ascontiguousarray(states[:, :width])
    length = _length(out, run)
    others = [np.ascontiguousarray(states[:, index * width : (index + 1) * width]) for index in range(1, sets)]
    for _, made in _projected(model, "altup_unembd_proj.weight", others, run, step):
        out += _as_long(made, length, run)
    _kernels.scale(out, 1 / sets, run.threads)
    return out


def _projected(model: Model, name: str, inputs: list[Floats], run: Run, step: int) -> Iterator[tuple[int, Floats]]:
    """Each of the inputs by its own matrix of a stack."""
    for index, x in enumerate(inputs):
        matrix, made = Matrix(model, name, run, BufferPool(), step), np.empty_like(x)
        matrix.apply(x, made, run.threads, index)
        yield index, made


def _as_long(x: Floats, length: Floats, run: Run) -> Floats:
    """The rows at other lengths; what has none is not finite, and found where the states are looked at."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Floats = x * (length / _length(x, run))[:, None]
        return found


def _length(x: Floats, run: Run) -> Floats:
    return np.sqrt(row_sums(x * x, run.threads))


def predict(rows: Rows, operation: Predict) -> None:
    """The states are the prediction of the active set; all predictions are kept for `correct`."""
    layer, space, width = rows.layer, rows.layer.space, rows.states.shape[1]
    sets, count = layer.model.columns.sets, len(rows.states)
    modalities = _modalities(rows, rows.states, "router's first rows")
    layer.tap(rows.importance, "altup_predict_coef", modalities)
    shares = layer.product("altup_predict_coef", modalities).reshape(count, sets, sets)
    predictions = space.floats("predictions", sets, count, width)
    old, part = rows.whole[:, : sets * width].reshape(count, sets, width), space.floats("part", count, width)
    for to in range(sets):
        predictions[to] = old[:, to]
        for source in range(sets):
            np.multiply(old[:, source], shares[:, to, source, None], out=part)
            predictions[to] += part
    rows.predictions = predictions
    rows.states[:] = predictions[0]


def correct(rows: Rows, operation: Correct) -> None:
    """All sets become their predictions, and a share of how far the states are from the active one's."""
    layer, space, predictions = rows.layer, rows.layer.space, rows.predictions
    assert predictions is not None  # made before
    sets, count, width = predictions.shape
    modalities = _modalities(rows, rows.states, "router's last rows")
    _tap_router(rows, width)
    layer.tap(rows.importance, "altup_correct_coef", modalities)
    shares = layer.product("altup_correct_coef", modalities) + np.float32(1)
    far, part = space.floats("far", count, width), space.floats("part", count, width)
    np.subtract(rows.states, predictions[0], out=far)
    for index in range(sets):
        np.multiply(far, shares[:, index, None], out=part)
        part += predictions[index]
        rows.whole[:, index * width : (index + 1) * width] = part
    rows.states[:] = rows.whole[:, :width]


def _modalities(rows: Rows, x: Floats, name: str) -> Floats:
    layer, threads = rows.layer, rows.layer.run.threads
    seen = layer.norm("altup_router_norm", x, layer.space.floats(name, *x.shape))
    _kernels.scale(seen, 1 / x.shape[1], threads)
    made = layer.product("altup_router", seen)
    out = layer.space.floats(f"{name} made", *made.shape)
    _kernels.activate("tanh", made, out, threads)
    return out


def _tap_router(rows: Rows, width: int) -> None:
    """The router sees rows twice in a layer; what it sees first of a chunk comes before the last of the same chunk."""
    if rows.importance is None:
        return
    space, count, length = rows.layer.space, len(rows.states), rows.positions.length
    both = space.floats("router's rows", count // length, 2, length, width)
    for index, name in enumerate(("router's first rows", "router's last rows")):
        both[:, index] = space.floats(name, count, width).reshape(-1, length, width)
    rows.layer.tap(rows.importance, "altup_router", both.reshape(-1, width))


def laurel(rows: Rows, operation: Laurel) -> None:
    """The change is the normed rows and what two narrow matrices make of them."""
    layer, x = rows.layer, rows.normed
    layer.tap(rows.importance, "laurel_l", x)
    narrow = layer.product("laurel_l", x)
    layer.tap(rows.importance, "laurel_r", narrow)
    made = layer.product("laurel_r", narrow)
    layer.norm("laurel_post_norm", made, made)
    _kernels.add(made, x, made, layer.run.threads)
    rows.change = made
