"""A mixture of experts: the router chooses some for each token, and their weighted results are added up.

Source: build_moe_ffn of llama-graph.cpp at b5490, and what b11312's has beside it.
"""

import math

import numpy as np
from numpy.typing import NDArray

from quantmill import _kernels
from quantmill.architectures.operations import Experts
from quantmill.engine.buffers import Floats
from quantmill.engine.importance import order
from quantmill.engine.parts.feed import between
from quantmill.engine.parts.rows import Rows
from quantmill.engine.workers import InTurn

_JOINED = "ffn_gate_up_exps.weight"
_ALPHA, _LIMIT = 1.702, 7.0  # of ggml_swiglu_oai in build_moe_ffn


def mixture(rows: Rows, operation: Experts) -> None:
    """The change is what the experts make of the rows; experts are added in their own order."""
    layer, importance, x, length = rows.layer, rows.importance, rows.seen(operation.of), rows.positions.length
    assert not isinstance(importance, InTurn)  # budget.py
    hyper, threads, space = layer.hyper, layer.run.threads, layer.space
    seen_by_router = _router_rows(rows, operation, x)
    layer.tap(importance, "ffn_gate_inp", seen_by_router)
    ids = np.empty((len(x), hyper.n_expert_used), np.int32)
    weights = np.empty(ids.shape, np.float32)
    _choose(rows, operation, seen_by_router, ids, weights)
    tokens, places = order(layer.run.reference, ids, length)
    ends = np.cumsum(np.bincount(ids.reshape(-1), minlength=hyper.n_expert))
    if importance is not None:
        chunks = len(x) // length
        inputs = tuple(f"{layer.prefix}{name}.weight" for name in _first_names(rows, operation))
        seen = importance.mixture(inputs, hyper.n_expert, hyper.n_embd, chunks)
        inner = importance.mixture((f"{layer.prefix}ffn_down_exps.weight",), hyper.n_expert, hyper.n_eff, chunks)
    out = space.floats("mixture", len(x), hyper.n_embd)
    out[:] = 0
    begin = 0
    for expert, end in enumerate(ends.tolist()):
        chosen, begin = slice(begin, end), end
        own_rows = tokens[chosen]
        if not len(own_rows):
            continue
        own = space.floats("rows of an expert", len(own_rows), hyper.n_embd)
        np.take(x, own_rows, axis=0, out=own)
        share = np.ascontiguousarray(weights[own_rows, places[chosen]])
        if operation.before:
            _kernels.scale_rows(own, share, threads)
            share[:] = 1
        gate = _between(rows, operation, own, expert)
        if importance is not None:
            importance.expert(seen, expert, own)
            importance.expert(inner, expert, gate)
        result = space.floats("result of an expert", len(own_rows), hyper.n_embd)
        _apply(rows, "ffn_down_exps", expert, gate, result)
        _kernels.add_rows(out, own_rows.astype(np.int32), share, result, threads)
    if layer.has("ffn_up_shexp.weight"):
        _kernels.add(out, _shared(rows, operation, x), out, threads)
    rows.change = out


def _first_names(rows: Rows, operation: Experts) -> tuple[str, ...]:
    """The stacks that see an expert's rows."""
    if rows.layer.has(_JOINED):
        return ("ffn_gate_up_exps",)
    return ("ffn_gate_exps", "ffn_up_exps") if operation.gated else ("ffn_up_exps",)


def _router_rows(rows: Rows, operation: Experts, x: Floats) -> Floats:
    """What the router sees."""
    if operation.routed == "seen":
        return x
    layer, threads = rows.layer, rows.layer.run.threads
    out = layer.space.floats("router's rows", *x.shape)
    _kernels.rms_norm(rows.states, None, out, layer.hyper.eps, threads)
    _kernels.scale(out, 1 / math.sqrt(x.shape[1]), threads)
    _kernels.multiply(out, layer.needed("ffn_gate_inp.scale"), out, threads)
    return out


def _between(rows: Rows, operation: Experts, own: Floats, expert: int) -> Floats:
    """What an expert's last matrix sees."""
    layer, threads, shape = rows.layer, rows.layer.run.threads, (len(own), rows.layer.hyper.n_eff)
    gate, up = layer.space.floats("gate", *shape), layer.space.floats("up", *shape)
    if layer.has(_JOINED):
        both = layer.space.floats("gate and up", len(own), 2 * shape[1])
        _apply(rows, "ffn_gate_up_exps", expert, own, both)
        gate[:], up[:] = both[:, : shape[1]], both[:, shape[1] :]
    else:
        _apply(rows, "ffn_up_exps", expert, own, up)
        if not operation.gated:
            _kernels.activate(operation.activation, up, up, threads)
            return up
        _apply(rows, "ffn_gate_exps", expert, own, gate)
    if operation.clamped:
        _kernels.clamped_swiglu(gate, up, gate, _ALPHA, _LIMIT, 1.0, threads)
    else:
        layer.activate(operation.activation, gate, up)
    return gate


def _choose(rows: Rows, operation: Experts, x: Floats, ids: NDArray[np.int32], weights: Floats) -> None:
    """The experts of every row and their shares."""
    layer, routing = rows.layer, rows.layer.hyper.routing
    _kernels.top_k(
        layer.product("ffn_gate_inp", x),
        ids,
        weights,
        routing.is_normalized if operation.normalized == "stated" else operation.normalized,
        layer.run.threads,
        scoring=routing.scoring if operation.scoring == "stated" else operation.scoring,
        bias=layer.vector("exp_probs_b.bias"),
        groups=routing.groups,
        groups_chosen=routing.groups_chosen,
        scale=routing.scale,
    )


def _apply(rows: Rows, name: str, expert: int, x: Floats, out: Floats) -> None:
    """An expert's matrix of a stack applied to x, with the scale and the biases that it has."""
    layer, threads = rows.layer, rows.layer.run.threads
    layer.matrix(name).apply(x, out, threads, expert)
    scales, biases = layer.vector(f"{name}.scale"), layer.biases(name)
    if scales is not None:
        _kernels.scale(out, float(scales[expert]), threads)
    if biases is not None:
        _kernels.add(out, biases[expert], out, threads)


def _shared(rows: Rows, operation: Experts, x: Floats) -> Floats:
    """What the experts that all tokens take make of the rows."""
    layer, threads = rows.layer, rows.layer.run.threads
    gated = layer.has("ffn_gate_inp_shexp.weight")
    if gated:
        layer.tap(rows.importance, "ffn_gate_inp_shexp", x)
    seen = between(rows, x, operation.activation, gated=operation.gated, part="_shexp")
    layer.tap(rows.importance, "ffn_down_shexp", seen)
    made = layer.product("ffn_down_shexp", seen)
    if gated:
        share = layer.product("ffn_gate_inp_shexp", x)
        _kernels.activate("sigmoid", share, share, threads)
        _kernels.scale_rows(made, share.reshape(-1), threads)
    return made
