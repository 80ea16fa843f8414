"""How long a text will take on this machine: what is to be multiplied, by how fast that goes when it is tried."""

import time

import numpy as np

from quantmill import _kernels
from quantmill.model.forward.hyper import Hyper
from quantmill.model.forward.run import Run

_SIZE = 512  # of the matrices that are tried: a chunk's tokens by a small model's columns
_OTHER = 1.2  # all the rest beside products: attention, norms, sums, packing (1.1 to 1.3 in practice)


def operations(hyper: Hyper, tokens: int, length: int = 512, perplexity: bool = True) -> int:
    """Multiplications and additions of matrix products for `tokens` tokens in chunks of `length`; the perplexity takes
    logits of every other token."""
    q, kv = hyper.n_head * hyper.head, hyper.n_head_kv * hyper.head
    feed = 3 * hyper.n_embd * hyper.n_ff * max(1, hyper.n_expert_used) + hyper.n_embd * hyper.n_expert
    layer = hyper.n_embd * (2 * q + 2 * kv) + feed + q * length
    output = hyper.n_embd * hyper.n_vocab // 2 if perplexity else 0
    return 2 * tokens * (hyper.n_layer * layer + output)


def speed(arithmetic: str, threads: int, seconds: float = 0.05) -> float:
    """Operations a second of the matrix product; tries for about so many seconds."""
    run = Run(arithmetic, threads)
    weights = np.full(_SIZE * _SIZE, 0x3F80, np.uint16).view(np.uint8)  # ones, as BF16
    panels = _kernels.pack("BF16", weights, _SIZE, _SIZE, run.kind, threads)
    x, out = np.ones((_SIZE, _SIZE), np.float32), np.empty((_SIZE, _SIZE), np.float32)
    _kernels.matmul(x, panels, out, threads)
    begin, count = time.perf_counter(), 0
    while count < 2 or time.perf_counter() - begin < seconds:
        _kernels.matmul(x, panels, out, threads)
        count += 1
    return 2 * count * _SIZE**3 / (time.perf_counter() - begin)


def estimate(hyper: Hyper, tokens: int, arithmetic: str, threads: int, *, perplexity: bool = True) -> float:
    """Seconds that `collect` will take for `tokens` tokens on this machine, if nothing else runs and nothing is read
    from a slow disk."""
    return _OTHER * operations(hyper, tokens, perplexity=perplexity) / speed(arithmetic, threads)
