"""Attention to compressed keys and values: each head's matrices of these are applied to queries and results instead.

Source: the graph of llama.cpp b11312 (deepseek2.cpp), with the same absorption.
"""

import numpy as np

from quantmill import _kernels
from quantmill.architectures.conditions import whole
from quantmill.architectures.operations import AttendCompressed
from quantmill.engine.buffers import Floats
from quantmill.engine.parts.rows import Rows
from quantmill.engine.workers import InTurn


def attend_compressed(rows: Rows, operation: AttendCompressed) -> None:
    """The change is what attention makes of the normed rows."""
    layer, positions, x = rows.layer, rows.positions, rows.normed
    hyper, threads, space = layer.hyper, layer.run.threads, layer.space
    rank, rotary, values, key = (whole(hyper.sizes[name]) for name in ("kv_rank", "rotary", "v_head", "mla"))
    cos, sin = positions.tables(layer.rope, hyper.rotated)
    q = _queries(rows).reshape(len(x), hyper.n_head, key)
    _kernels.rope(q, cos, sin, "norm", positions.length, threads, offset=key - rotary)
    layer.tap(rows.importance, "attn_kv_a_mqa", x)
    both = layer.product("attn_kv_a_mqa", x)
    kept, turned = space.floats("compressed", len(x), rank), space.floats("turned key", len(x), 1, rotary)
    kept[:], turned[:, 0] = both[:, :rank], both[:, rank:]
    _kernels.rope(turned, cos, sin, "norm", positions.length, threads)
    layer.norm("attn_kv_a_norm", kept, kept)
    queries = space.floats("absorbed queries", len(x), hyper.n_head, rank + rotary)
    queries[:, :, rank:] = q[:, :, key - rotary :]
    _by_head(rows, "attn_k_b", q[:, :, : key - rotary], queries[:, :, :rank])
    keys = space.floats("keys", len(x), 1, rank + rotary)
    keys[:, 0, :rank], keys[:, 0, rank:] = kept, turned[:, 0]
    out = space.floats("attended", len(x), hyper.n_head, rank)
    scale, one = hyper.attention_scale, kept.reshape(len(x), 1, rank)
    _kernels.attention(queries, keys, one, out, scale, positions.length, 0, threads)
    result = space.floats("values", len(x), hyper.n_head, values)
    _by_head(rows, "attn_v_b", out, result)
    flat = result.reshape(len(x), -1)
    layer.tap(rows.importance, "attn_output", flat)
    rows.change = layer.product("attn_output", flat) if rows.wanted else None


def _queries(rows: Rows) -> Floats:
    """All heads' queries, which may be compressed too."""
    layer, x = rows.layer, rows.normed
    if layer.has("attn_q.weight"):
        layer.tap(rows.importance, "attn_q", x)
        return layer.product("attn_q", x)
    layer.tap(rows.importance, "attn_q_a", x)
    low = layer.product("attn_q_a", x)
    layer.norm("attn_q_a_norm", low, low)
    layer.tap(rows.importance, "attn_q_b", low)
    return layer.product("attn_q_b", low)


def _by_head(rows: Rows, name: str, x: Floats, out: Floats) -> None:
    """Each head's columns by a matrix of its own; both are of shape (m, heads, columns)."""
    layer, importance, threads = rows.layer, rows.importance, rows.layer.run.threads
    assert not isinstance(importance, InTurn)  # of a mixture: budget.py
    matrix, heads = layer.matrix(name), x.shape[1]
    if importance is not None:
        chunks = len(x) // rows.positions.length
        sums = importance.mixture((f"{layer.prefix}{name}.weight",), heads, x.shape[2], chunks)
    for head in range(heads):
        own = np.ascontiguousarray(x[:, head])
        if importance is not None:
            importance.expert(sums, head, own)
        made = layer.space.floats(f"{name} of a head", len(own), matrix.rows)
        matrix.apply(own, made, threads, head)
        out[:, head] = made
