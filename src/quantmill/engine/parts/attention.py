"""Attention: queries, keys and values of the rows, turned by their positions, and what they give."""

from quantmill import _kernels
from quantmill.architectures.operations import Attend
from quantmill.engine.parts.rows import Rows


def attend(rows: Rows, operation: Attend) -> None:
    """The change is what attention makes of the rows."""
    layer, positions, x = rows.layer, rows.positions, rows.seen(operation.of)
    hyper, threads = layer.hyper, layer.run.threads
    layer.tap(rows.importance, "attn_q attn_k attn_v", x)
    q, k, v = (out.reshape(len(x), -1, hyper.head) for out in layer.products(["attn_q", "attn_k", "attn_v"], x))
    cos, sin = positions.tables(layer.rope)
    for name, heads in (("attn_q_norm", q), ("attn_k_norm", k)):
        if operation.qk_norm:
            by_head = heads.reshape(-1, hyper.head)
            layer.norm(name, by_head, by_head)
        _kernels.rope(heads, cos, sin, operation.rope, positions.length, threads)
    out = layer.space.floats("attended", *q.shape)
    _kernels.attention(q, k, v, out, hyper.attention_scale, positions.length, layer.window, threads)
    result = out.reshape(len(x), -1)
    layer.tap(rows.importance, "attn_output", result)
    rows.change = layer.product("attn_output", result) if rows.wanted else None
