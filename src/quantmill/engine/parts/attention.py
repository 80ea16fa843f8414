"""Attention: queries, keys and values of the rows, turned by their positions, and what they give."""

import numpy as np

from quantmill import _kernels
from quantmill.architectures.conditions import of
from quantmill.architectures.operations import Attend
from quantmill.engine.buffers import Floats
from quantmill.engine.parts.rows import Rows

_UNNORMED = 128  # experts of the only Llama 4 that norms no queries and keys
_CHUNKS_SCALE = 0.1  # of its queries' growth (llama4.cpp)


def attend(rows: Rows, operation: Attend) -> None:
    """The change is what attention makes of the rows."""
    layer, positions, x = rows.layer, rows.positions, rows.seen(operation.of)
    hyper, threads = layer.hyper, layer.run.threads
    giver = hyper.giver(operation, layer.index, layer.sizes)
    projected = _projected(rows, operation, x) if giver == layer.index else [_queries(rows, x), *_kept(rows, giver)]
    gate = _ungated(rows, projected) if operation.gated else None
    q, k, v = (out.reshape(len(x), -1, layer.head) for out in projected)
    turned = hyper.turns(operation, layer.index)
    cos, sin = positions.tables(layer.rope, hyper.rotated_of(layer.index))
    own = (("attn_q_norm", q), ("attn_k_norm", k)) if giver == layer.index else (("attn_q_norm", q),)
    for name, heads in own:
        normed = heads.reshape(len(x), -1) if operation.normed == "whole" else heads.reshape(-1, layer.head)
        if operation.qk_norm and operation.normed != "turned":
            layer.norm(name, normed, normed)
        if turned:
            _kernels.rope(heads, cos, sin, operation.rope, positions.length, threads)
        if operation.qk_norm and operation.normed == "turned":
            layer.norm(name, normed, normed)
        if operation.chunked and turned and hyper.n_expert != _UNNORMED:
            _kernels.rms_norm(normed, None, normed, hyper.eps, threads)
    if operation.value_norm and giver == layer.index:
        by_head = v.reshape(-1, layer.head)
        _kernels.rms_norm(by_head, None, by_head, hyper.eps, threads)
    _keep(rows, k, v)
    if operation.tempered and not (operation.chunked and turned):
        _temper(rows, q)
    out = layer.space.floats("attended", *q.shape)
    cap = hyper.numbers.get("attn_logit_softcapping", 0.0) if operation.capped else 0.0
    sinks = layer.vector("attn_sinks.weight") if operation.sinks else None
    scale, window, chunk = hyper.attention_scale, layer.window, 0
    if operation.chunked:
        window, chunk = 0, window
    _kernels.attention(q, k, v, out, scale, positions.length, window, threads, chunk=chunk, soft_cap=cap, sinks=sinks)
    result = out.reshape(len(x), -1)
    if gate is not None:
        _kernels.gated("sigmoid", gate, result, result, threads)
    layer.tap(rows.importance, "attn_output", result)
    rows.change = layer.product("attn_output", result) if rows.wanted else None


def _projected(rows: Rows, operation: Attend, x: Floats) -> list[Floats]:
    """Queries, keys and values, each contiguous."""
    layer = rows.layer
    if not layer.has("attn_qkv.weight"):
        names = ["attn_q", "attn_k", "attn_v"]
        if operation.value_norm and not layer.has("attn_v.weight"):
            del names[2]
        layer.tap(rows.importance, " ".join(names), x)
        found = layer.products(names, x)
        if len(found) == 2:
            v = layer.space.floats("attn_v", *found[1].shape)
            v[:] = found[1]
            found.append(v)
        return found
    layer.tap(rows.importance, "attn_qkv", x)
    whole, begin = layer.product("attn_qkv", x), 0
    found, narrow = [], of("kv", layer.sizes, layer.index)
    for name, width in (("attn_q", whole.shape[1] - 2 * narrow), ("attn_k", narrow), ("attn_v", narrow)):
        part = layer.space.floats(name, len(x), width)
        part[:] = whole[:, begin : begin + width]
        begin += width
        bias = layer.vector(f"{name}.bias")
        if bias is not None:
            _kernels.add(part, bias, part, layer.run.threads)
        found.append(part)
    return found


def _queries(rows: Rows, x: Floats) -> Floats:
    rows.layer.tap(rows.importance, "attn_q", x)
    return rows.layer.product("attn_q", x)


def _kept(rows: Rows, giver: int | None) -> list[Floats]:
    """The keys and values that another layer left in the states."""
    assert giver is not None  # checked when the model was opened
    found = []
    for name, first in zip(("attn_k", "attn_v"), rows.layer.model.columns.kept[giver], strict=True):
        width = of("kv", rows.layer.sizes, giver)
        part = rows.layer.space.floats(name, len(rows.whole), width)
        part[:] = rows.whole[:, first : first + width]
        found.append(part)
    return found


def _keep(rows: Rows, k: Floats, v: Floats) -> None:
    """Leaves keys and values in the states where later layers take them."""
    for part, first in zip((k, v), rows.layer.model.columns.kept.get(rows.layer.index, ()), strict=False):
        flat = part.reshape(len(part), -1)
        rows.whole[:, first : first + flat.shape[1]] = flat


def _ungated(rows: Rows, projected: list[Floats]) -> Floats:
    """The gates of all heads, which attn_q makes behind each head's queries; these take its place in the list."""
    both, head = projected[0], rows.layer.hyper.head
    parts = both.reshape(len(both), -1, 2, head)
    q, gate = (rows.layer.space.floats(f"attn_q {name}", len(both), both.shape[1] // 2) for name in ("own", "gate"))
    q[:], gate[:] = parts[:, :, 0].reshape(q.shape), parts[:, :, 1].reshape(gate.shape)
    projected[0] = q
    return gate


def _temper(rows: Rows, q: Floats) -> None:
    """Queries beyond the original context are multiplied by what their positions say (llm_graph_input_attn_temp)."""
    hyper, length = rows.layer.hyper, rows.positions.length
    scale, step, first = hyper.numbers.get("attention.temperature_scale", 0.0), hyper.rope.context, 0
    if hyper.row.chunk:
        scale, step, first = _CHUNKS_SCALE, hyper.row.chunk, 1
    if not scale or length + first <= step:
        return
    factors = (np.log(np.arange(first, length + first) // step + 1.0) * scale + 1.0).astype(np.float32)
    every = np.tile(factors, len(q) // length)
    _kernels.scale_rows(q.reshape(len(q), -1), every, rows.layer.run.threads)
