"""The work of one layer: attention, then the feed-forward part, on whole chunks of the text.

Source of what is computed, in which order: the graphs of llama-model.cpp and llama-graph.cpp at b5490.
"""

from quantmill import _kernels
from quantmill.engine.buffers import Floats
from quantmill.engine.experts import mixture
from quantmill.engine.layer import LayerWeights, Taps
from quantmill.engine.positions import Positions
from quantmill.engine.workers import InTurn


def push(layer: LayerWeights, x: Floats, positions: Positions, importance: Taps | None, wanted: bool = True) -> None:
    """Replaces the states of whole chunks, shape (m, n_embd), by the layer's; where they are not wanted, goes only
    as far as the importance needs it."""
    normed = layer.space.floats("normed", *x.shape)
    _add(layer, x, "post_attention_norm", _attention(layer, layer.norm("attn_norm", x, normed), positions, importance))
    layer.norm("ffn_norm", x, normed)
    if layer.hyper.n_expert:
        assert not isinstance(importance, InTurn)  # budget.py
        _add(layer, x, "post_ffw_norm", mixture(layer, normed, positions.length, importance))
    else:
        _dense(layer, x, normed, importance, wanted)


def _add(layer: LayerWeights, x: Floats, norm: str, change: Floats) -> None:
    _kernels.add(x, layer.norm(norm, change, change), x, layer.run.threads)


def _attention(layer: LayerWeights, x: Floats, positions: Positions, importance: Taps | None) -> Floats:
    hyper, threads = layer.hyper, layer.run.threads
    layer.tap(importance, "attn_q attn_k attn_v", x)
    q, k, v = (out.reshape(len(x), -1, hyper.head) for out in layer.products(["attn_q", "attn_k", "attn_v"], x))
    cos, sin = positions.tables(layer.rope)
    for name, heads in (("attn_q_norm", q), ("attn_k_norm", k)):
        rows = heads.reshape(-1, hyper.head)
        layer.norm(name, rows, rows)
        _kernels.rope(heads, cos, sin, hyper.row.rope, positions.length, threads)
    out = layer.space.floats("attended", *q.shape)
    _kernels.attention(q, k, v, out, hyper.attention_scale, positions.length, layer.window, threads)
    rows = out.reshape(len(x), -1)
    layer.tap(importance, "attn_output", rows)
    return layer.product("attn_output", rows)


def _dense(layer: LayerWeights, x: Floats, normed: Floats, importance: Taps | None, wanted: bool) -> None:
    layer.tap(importance, "ffn_gate ffn_up", normed)
    gate, up = layer.products(["ffn_gate", "ffn_up"], normed)
    layer.activate(gate, up)
    layer.tap(importance, "ffn_down", gate)
    if wanted:
        _add(layer, x, "post_ffw_norm", layer.product("ffn_down", gate))
