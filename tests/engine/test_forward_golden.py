"""The forward kernels write the bits that they wrote before: digests that all levels of x86-64 gave."""

import hashlib

import numpy as np
import pytest

from quantmill import _kernels


def numbers(*shape: int, seed: int) -> np.ndarray:
    """From -1 to 1, by integers alone, so that no other library's version matters."""
    n = np.arange(np.prod(shape), dtype=np.uint64) + np.uint64(seed * 1_000_003)
    for _ in range(2):
        n = (n ^ (n >> np.uint64(15))) * np.uint64(0x2C1B3C6D) & np.uint64(0xFFFFFFFF)
    return (((n >> np.uint64(8)).astype(np.int64) - (1 << 23)) / (1 << 23)).astype(np.float32).reshape(shape)


def product(arithmetic: str) -> np.ndarray:
    out = []
    for m, n, k in ((5, 33, 70), (50, 40, 300), (33, 33, 513)):
        for scale in (1.0, 2.0**-63, 2.0**-66, 2.0**-70):
            x, w = numbers(m, k, seed=1) * np.float32(scale), numbers(n, k, seed=2) * np.float32(scale)
            out.append(np.empty((m, n), np.float32))
            panels = _kernels.pack("F32", w.view(np.uint8).reshape(-1), n, k, arithmetic, 2)
            _kernels.matmul(x, panels, out[-1], 2)
    return np.concatenate([one.reshape(-1) for one in out])


def attention() -> np.ndarray:
    q, k, v = numbers(110, 4, 40, seed=3) * 4, numbers(110, 2, 40, seed=4) * 4, numbers(110, 2, 33, seed=5)
    cos, sin = np.empty((110, 20), np.float32), np.empty((110, 20), np.float32)
    _kernels.rope_table(40, 1e6, cos, sin, scale=0.25, ext_factor=1.0, original_context=32768, first=7777)
    for x, mode in ((q, "neox"), (k, "norm")):
        _kernels.rope(x, cos, sin, mode, 110, 2)
    out, near = np.empty((110, 4, 33), np.float32), np.empty((110, 4, 33), np.float32)
    _kernels.attention(q, k, v, out, 0.2, 110, 0, 2)
    _kernels.attention(q, k, v, near, 0.2, 55, 17, 2)
    return np.stack([out, near])


def rows() -> np.ndarray:
    x, y, out = numbers(9, 333, seed=6) * 30, numbers(9, 333, seed=7), np.empty((4, 9, 333), np.float32)
    _kernels.rms_norm(x, y[0], out[0], 1e-6, 2)
    _kernels.silu_mul(x, y, out[1], 2)
    _kernels.gelu_mul(x, y, out[2], 2)
    out[3] = x
    _kernels.softmax(out[3], 2)
    return out


def scores() -> np.ndarray:
    base, logits = numbers(9, 333, seed=8) * 20, numbers(9, 333, seed=9) * 20
    nll, divergence, top = np.empty(9), np.empty(9), np.empty(9, np.int32)
    _kernels.nll(logits, np.arange(9, dtype=np.int32), nll, top, 2)
    _kernels.kld(base, logits, divergence, 2)
    return np.stack([nll, divergence])


GOLDEN = {
    "f32": "b2921553ddd9335483ec8df050cee6183197b66e247f290f34dda4fd014e4749",
    "bf16x2": "da4057d4719151a4403842a6ab1f84884031a6263e1833b79389b872bdc29f58",
    "attention": "88057de3d5b9be3f251b6c647021253037b8eea172ee82211552754052f55fb6",
    "rows": "ef98273e79d9b584a2f73e2558241c88bd5318005b0284919f142f09fbd7aea3",
    "scores": "06f73e22ecca648e716abd9a0e72c83c3bf34ec4180ca76d437fd3fe1e5cdb97",
}


@pytest.mark.parametrize("name", GOLDEN)
def test_bits_are_those_of_before(name: str) -> None:
    result = (
        product(name) if name in ("f32", "bf16x2") else {"attention": attention, "rows": rows, "scores": scores}[name]()
    )
    assert hashlib.sha256(result.tobytes()).hexdigest() == GOLDEN[name]
