"""What layers are told of a token beside its state: by the token's own rows, and by its embedding.

Source: the graph of llama.cpp b11312 (gemma4.cpp). Each layer makes its part anew, so that nothing of it is kept.
"""

import math

import numpy as np
from numpy.typing import NDArray

from quantmill import _kernels
from quantmill.architectures.conditions import whole
from quantmill.architectures.operations import LayerInputs
from quantmill.engine.buffers import Floats
from quantmill.engine.model import EMBEDDED, Model
from quantmill.engine.parts.rows import Rows

_OWN = EMBEDDED // 4  # rows that are fetched together of those that have numbers for all layers


def layer_inputs(rows: Rows, operation: LayerInputs) -> None:
    """The change is what the layer's inputs give through a gate that the states make."""
    layer, threads, x = rows.layer, rows.layer.run.threads, rows.states
    if layer.has("altup_correct_scale.weight"):
        seen = layer.space.floats("scaled states", *x.shape)
        _kernels.multiply(x, layer.needed("altup_correct_scale.weight"), seen, threads)
        x = seen
    layer.tap(rows.importance, "inp_gate", x)
    gate = layer.product("inp_gate", x)
    layer.activate("gelu", gate, _inputs(rows))
    layer.tap(rows.importance, "proj", gate)
    rows.change = layer.product("proj", gate) if rows.wanted else None


def _inputs(rows: Rows) -> Floats:
    layer, threads, space = rows.layer, rows.layer.run.threads, rows.layer.space
    model, hyper = layer.model, layer.hyper
    ids = rows.whole[:, model.columns.token].astype(np.int32)
    count, width = len(ids), whole(layer.sizes["per_layer"])
    first, root = layer.index * width, math.sqrt(width)
    embedded = embed(model, ids, space.floats("embedded", count, hyper.n_embd))
    made = space.floats("layer inputs", count, width)
    layer.inputs_matrix(width).apply(embedded, made, threads)
    _kernels.scale(made, 1 / math.sqrt(hyper.n_embd), threads)
    norm = model.vector("per_layer_proj_norm.weight")
    _kernels.rms_norm(made, norm, made, hyper.eps, threads)
    own = space.floats("own inputs", count, width)
    for begin in range(0, count, _OWN):
        some = ids[begin : begin + _OWN]
        own[begin : begin + _OWN] = model.gather("per_layer_token_embd.weight", some, first, first + width)
    _kernels.scale(own, root, threads)
    _kernels.add(made, own, made, threads)
    _kernels.scale(made, 1 / math.sqrt(2), threads)
    return made


def embed(model: Model, ids: NDArray[np.int32], out: Floats) -> Floats:
    """The tokens' embeddings as the first layer sees them, in `out`."""
    for begin in range(0, len(ids), EMBEDDED):
        out[begin : begin + EMBEDDED] = model.gather("token_embd.weight", ids[begin : begin + EMBEDDED])
    if model.hyper.embedding_scale != 1:
        _kernels.scale(out, model.hyper.embedding_scale, 1)
    return out
