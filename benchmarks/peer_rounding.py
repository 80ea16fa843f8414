"""`quantmill perplexity` with activations rounded as llama.cpp rounds them before it multiplies.

    python benchmarks/peer_rounding.py MODEL.gguf -f TEXT [--base BASE.gguf] [the command's other options]

llama.cpp brings a row of activations to the type that the weights' product takes (ggml-cpu's table of vec_dot_type):
8-bit integers with a scale for each 32 columns (Q8_0) or each 256 (Q8_K), float16, bfloat16; F32 stays as it is.
quantmill multiplies with unrounded ones when it measures. With the rounding put in, it should find what
llama-perplexity finds; `quality.py` prints whether it does.
"""

import sys

import numpy as np

from quantmill.cli import main
from quantmill.engine.matrix import Matrix
from quantmill.engine.model import Floats
from quantmill.gguf.types import TYPES


def integers(x: Floats, block: int) -> Floats:
    """Integers of at most 127 with a scale for each `block` columns: of 32 in float16 (Q8_0), of 256 in float32 (Q8_K),
    where the largest becomes -127."""
    blocks = x.reshape(-1, block)
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(1)[:, None], 1)
    if block == 32:
        largest = np.abs(largest)
    with np.errstate(divide="ignore", invalid="ignore"):
        whole = np.rint(blocks * np.where(largest == 0, 0, np.float32(127 if block == 32 else -127) / largest))
    scale = largest / np.float32(127 if block == 32 else -127)
    if block == 32:
        scale = scale.astype(np.float16).astype(np.float32)
    return (whole * scale).astype(np.float32).reshape(x.shape)


def bfloat16(x: Floats) -> Floats:
    bits = x.view(np.uint32)
    nearest: np.ndarray = (bits + 0x7FFF + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)
    return nearest.view(np.float32)


def rounded(x: Floats, type_: str) -> Floats:
    """The activations that weights of the type are multiplied with."""
    if type_ == "F32":
        return x
    if type_ == "F16":
        return x.astype(np.float16).astype(np.float32)
    if type_ == "BF16":
        return bfloat16(np.ascontiguousarray(x))
    return integers(np.ascontiguousarray(x), TYPES[type_].block)


_exact = Matrix.apply


def _apply(self: Matrix, x: Floats, out: Floats, threads: int, index: int = 0) -> None:
    _exact(self, rounded(x, self._type.name), out, threads, index)


if __name__ == "__main__":
    # Products of several matrices with one input go together where all are held: each has a rounding of its own here.
    Matrix.apply = _apply  # type: ignore[method-assign]
    Matrix.held = property(lambda self: None)  # type: ignore[method-assign, assignment]
    main(["perplexity", *sys.argv[1:]])
