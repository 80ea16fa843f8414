"""What goes through a text token by token: short convolutions, Mamba 2's scan, and gated delta nets.

Every chunk of the text begins with states of zero. Source: the graphs of llama.cpp b11312 (lfm2.cpp, mamba-base.cpp,
qwen35.cpp, qwen3next.cpp).
"""

import numpy as np

from quantmill import _kernels
from quantmill.architectures.conditions import whole
from quantmill.architectures.operations import DeltaNet, Scan, ShortConvolve
from quantmill.engine.buffers import Floats
from quantmill.engine.parts.rows import Rows


def short_convolve(rows: Rows, operation: ShortConvolve) -> None:
    """Gates B and C and the input x from one matrix: C times the convolution of B x."""
    layer, threads, length = rows.layer, rows.layer.run.threads, rows.positions.length
    layer.tap(rows.importance, "shortconv.in_proj", rows.normed)
    both = layer.product("shortconv.in_proj", rows.normed)
    width = both.shape[1] // 3
    b, c, x = (_part(rows, f"shortconv {index}", both, index * width, width) for index in range(3))
    _kernels.multiply(b, x, b, threads)
    _kernels.convolve(b, layer.table("shortconv.conv.weight"), None, x, length, threads)
    _kernels.multiply(c, x, c, threads)
    layer.tap(rows.importance, "shortconv.out_proj", c)
    rows.change = layer.product("shortconv.out_proj", c) if rows.wanted else None


def scan(rows: Rows, operation: Scan) -> None:
    """One matrix makes gates, the convolved x, B and C, and time steps."""
    layer, threads, length, x = rows.layer, rows.layer.run.threads, rows.positions.length, rows.normed
    sizes, space = layer.hyper.sizes, layer.space
    inner, groups, states, heads = (whole(sizes[name]) for name in ("inner", "groups", "states", "ssm_heads"))
    layer.tap(rows.importance, "ssm_in", x)
    made = layer.product("ssm_in", x)
    conv = inner + 2 * groups * states
    gates, mixed = _part(rows, "ssm gates", made, 0, inner), _part(rows, "ssm mixed", made, inner, conv)
    steps = _part(rows, "ssm steps", made, inner + conv, heads)
    _kernels.add(steps, layer.needed("ssm_dt.bias"), steps, threads)
    out = space.floats("ssm convolved", len(x), conv)
    _kernels.convolve(mixed, layer.table("ssm_conv1d.weight"), layer.vector("ssm_conv1d.bias"), out, length, threads)
    _kernels.activate("silu", out, out, threads)
    inputs = _part(rows, "ssm inputs", out, 0, inner).reshape(len(x), heads, -1)
    b = _part(rows, "ssm b", out, inner, groups * states).reshape(len(x), groups, states)
    c = _part(rows, "ssm c", out, inner + groups * states, groups * states).reshape(len(x), groups, states)
    result = space.floats("ssm result", *inputs.shape)
    decay, direct = (layer.table(name).reshape(-1) for name in ("ssm_a", "ssm_d"))
    _kernels.ssm_scan(inputs, steps, decay, b, c, direct, result, length, threads)
    flat = result.reshape(len(x), inner)
    _kernels.gated("silu", gates, flat, flat, threads)
    if layer.has("ssm_norm.weight"):
        weight = layer.table("ssm_norm.weight").reshape(-1)
        _kernels.rms_norm(flat, weight, flat, layer.hyper.eps, threads, groups=groups)
    layer.tap(rows.importance, "ssm_out", flat)
    rows.change = layer.product("ssm_out", flat) if rows.wanted else None


def delta_net(rows: Rows, operation: DeltaNet) -> None:
    """Queries, keys and values are convolved; what was stored under a key is replaced as far as beta says."""
    layer, threads, length, x = rows.layer, rows.layer.run.threads, rows.positions.length, rows.normed
    sizes, space, eps = layer.hyper.sizes, layer.space, layer.hyper.eps
    inner, keys, width, heads = (whole(sizes[name]) for name in ("inner", "groups", "states", "ssm_heads"))
    names = ["attn_qkv", "attn_gate", *(("ssm_ba",) if operation.interleaved else ("ssm_beta", "ssm_alpha"))]
    layer.tap(rows.importance, " ".join(names), x)
    mixed, gates, *rest = layer.products(names, x)
    beta, alpha = _beta_alpha(rows, rest[0], keys) if operation.interleaved else rest
    _kernels.activate("sigmoid", beta, beta, threads)
    _kernels.add(alpha, layer.needed("ssm_dt.bias"), alpha, threads)
    _kernels.activate("softplus", alpha, alpha, threads)
    _kernels.multiply(alpha, layer.needed("ssm_a"), alpha, threads)
    out = space.floats("delta convolved", *mixed.shape)
    _kernels.convolve(mixed, layer.table("ssm_conv1d.weight"), None, out, length, threads)
    _kernels.activate("silu", out, out, threads)
    first = keys * width
    q, k = (_part(rows, f"delta {index}", out, index * first, first).reshape(-1, width) for index in range(2))
    v = _part(rows, "delta values", out, 2 * first, inner).reshape(len(x), heads, -1)
    for each in (q, k):
        _kernels.l2_norm(each, each, eps, threads, inside=True)
    result = space.floats("delta result", *v.shape)
    shape = (len(x), keys, width)
    scale, interleaved = 1 / np.sqrt(width), operation.interleaved
    _kernels.delta_net(
        q.reshape(shape), k.reshape(shape), v, alpha, beta, result, scale, length, threads, interleaved=interleaved
    )
    by_head = result.reshape(len(x) * heads, -1)
    _kernels.rms_norm(by_head, layer.needed("ssm_norm.weight"), by_head, eps, threads)
    flat = result.reshape(len(x), inner)
    _kernels.gated("silu", gates, flat, flat, threads)
    layer.tap(rows.importance, "ssm_out", flat)
    rows.change = layer.product("ssm_out", flat) if rows.wanted else None


def _beta_alpha(rows: Rows, both: Floats, keys: int) -> tuple[Floats, Floats]:
    """Of each key head's betas and alphas, all betas and all alphas."""
    parts = both.reshape(len(both), keys, 2, -1)
    beta, alpha = (
        rows.layer.space.floats(f"delta {name}", len(both), both.shape[1] // 2) for name in ("beta", "alpha")
    )
    beta[:], alpha[:] = parts[:, :, 0].reshape(beta.shape), parts[:, :, 1].reshape(alpha.shape)
    return beta, alpha


def _part(rows: Rows, name: str, whole: Floats, begin: int, width: int) -> Floats:
    """Columns of the rows, contiguous."""
    part = rows.layer.space.floats(name, len(whole), width)
    part[:] = whole[:, begin : begin + width]
    return part
