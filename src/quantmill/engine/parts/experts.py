"""A mixture of experts: the router chooses some for each token, and their weighted results are added up.

Source: build_moe_ffn of llama-graph.cpp at b5490, with softmax over all experts and weights divided by their sum.
"""

from typing import Any

import numpy as np

from quantmill import _kernels
from quantmill.architectures.operations import Experts
from quantmill.engine.buffers import Floats
from quantmill.engine.importance import order
from quantmill.engine.parts.rows import Rows
from quantmill.engine.workers import InTurn


def mixture(rows: Rows, operation: Experts) -> None:
    """The change is what the experts make of the rows; experts are added in their own order."""
    layer, importance, x, length = rows.layer, rows.importance, rows.seen(operation.of), rows.positions.length
    assert not isinstance(importance, InTurn)  # budget.py
    hyper, threads, space = layer.hyper, layer.run.threads, layer.space
    layer.tap(importance, "ffn_gate_inp", x)
    ids = np.empty((len(x), hyper.n_expert_used), np.int32)
    weights = np.empty(ids.shape, np.float32)
    _kernels.top_k(layer.product("ffn_gate_inp", x), ids, weights, **_routing(rows, operation))
    tokens, places = order(layer.run.reference, ids, length)
    ends = np.cumsum(np.bincount(ids.reshape(-1), minlength=hyper.n_expert))
    if importance is not None:
        chunks = len(x) // length
        names = ("ffn_gate_exps", "ffn_up_exps") if operation.gated else ("ffn_up_exps",)
        inputs = tuple(f"{layer.prefix}{name}.weight" for name in names)
        seen = importance.mixture(inputs, hyper.n_expert, hyper.n_embd, chunks)
        between = importance.mixture((f"{layer.prefix}ffn_down_exps.weight",), hyper.n_expert, hyper.n_eff, chunks)
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
        gate = _between(rows, operation, own, expert)
        if importance is not None:
            importance.expert(seen, expert, own)
            importance.expert(between, expert, gate)
        result = space.floats("result of an expert", len(own_rows), hyper.n_embd)
        layer.matrix("ffn_down_exps").apply(gate, result, threads, expert)
        share = np.ascontiguousarray(weights[own_rows, places[chosen]])
        _kernels.add_rows(out, own_rows.astype(np.int32), share, result, threads)
    rows.change = out


def _between(rows: Rows, operation: Experts, own: Floats, expert: int) -> Floats:
    """What an expert's last matrix sees."""
    layer, threads, shape = rows.layer, rows.layer.run.threads, (len(own), rows.layer.hyper.n_eff)
    gate, up = layer.space.floats("gate", *shape), layer.space.floats("up", *shape)
    layer.matrix("ffn_up_exps").apply(own, up, threads, expert)
    if not operation.gated:
        _kernels.activate(operation.activation, up, up, threads)
        return up
    layer.matrix("ffn_gate_exps").apply(own, gate, threads, expert)
    layer.activate(operation.activation, gate, up)
    return gate


def _routing(rows: Rows, operation: Experts) -> dict[str, Any]:
    """How the router's logits become choices and shares."""
    layer, hyper = rows.layer, rows.layer.hyper
    scoring = hyper.routing.scoring if operation.scoring == "stated" else operation.scoring
    normalized = hyper.routing.is_normalized if operation.normalized == "stated" else operation.normalized
    found: dict[str, Any] = {"normalize": normalized, "threads": layer.run.threads, "scoring": scoring}
    found["scale"] = hyper.routing.scale
    if operation.biased:
        found |= {"groups": hyper.routing.groups, "groups_chosen": hyper.routing.groups_chosen}
        if (bias := layer.vector("exp_probs_b.bias")) is not None:
            found["bias"] = bias
    return found
