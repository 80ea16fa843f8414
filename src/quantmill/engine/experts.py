"""A mixture of experts: the router chooses some for each token, and their weighted results are added up.

Source: build_moe_ffn of llama-graph.cpp at b5490, with softmax over all experts and weights divided by their sum.
"""

import numpy as np

from quantmill import _kernels
from quantmill.engine.buffers import Floats
from quantmill.engine.importance import Importance, order
from quantmill.engine.layer import LayerWeights


def mixture(layer: LayerWeights, x: Floats, length: int, importance: Importance | None) -> Floats:
    """The results for normed states of whole chunks of `length` rows; experts are added in their own order."""
    hyper, threads, space = layer.hyper, layer.run.threads, layer.space
    layer.tap(importance, "ffn_gate_inp", x)
    ids = np.empty((len(x), hyper.n_expert_used), np.int32)
    weights = np.empty(ids.shape, np.float32)
    _kernels.top_k(layer.product("ffn_gate_inp", x), ids, weights, True, threads)
    tokens, places = order(layer.run.reference, ids, length)
    ends = np.cumsum(np.bincount(ids.reshape(-1), minlength=hyper.n_expert))
    if importance is not None:
        chunks = len(x) // length
        inputs = (f"{layer.prefix}ffn_gate_exps.weight", f"{layer.prefix}ffn_up_exps.weight")
        seen = importance.mixture(inputs, hyper.n_expert, hyper.n_embd, chunks)
        between = importance.mixture((f"{layer.prefix}ffn_down_exps.weight",), hyper.n_expert, hyper.n_ff, chunks)
    out = space.floats("mixture", len(x), hyper.n_embd)
    out[:] = 0
    begin = 0
    for expert, end in enumerate(ends.tolist()):
        chosen, begin = slice(begin, end), end
        rows = tokens[chosen]
        if not len(rows):
            continue
        own = space.floats("rows of an expert", len(rows), hyper.n_embd)
        np.take(x, rows, axis=0, out=own)
        gate, up = space.floats("gate", len(rows), hyper.n_ff), space.floats("up", len(rows), hyper.n_ff)
        layer.matrix("ffn_gate_exps").apply(own, gate, threads, expert)
        layer.matrix("ffn_up_exps").apply(own, up, threads, expert)
        layer.activate(gate, up)
        if importance is not None:
            importance.expert(seen, expert, own)
            importance.expert(between, expert, gate)
        result = space.floats("result of an expert", len(rows), hyper.n_embd)
        layer.matrix("ffn_down_exps").apply(gate, result, threads, expert)
        share = np.ascontiguousarray(weights[rows, places[chosen]])
        _kernels.add_rows(out, rows.astype(np.int32), share, result, threads)
    return out
