"""Rotary positions of a chunk as tables of cosines and sines."""

import numpy as np

from quantmill import _kernels
from quantmill.architectures.hyperparameters import Hyper
from quantmill.architectures.rope_scaling import Rope, check_factors
from quantmill.engine.buffers import Floats
from quantmill.engine.model import Model


class Positions:
    """Tables for the positions 0 to `length` - 1 of every chunk, made once for each kind of layer."""

    def __init__(self, model: Model, length: int) -> None:
        self.length = length
        self._hyper: Hyper = model.hyper
        long = "long" if length > self._hyper.rope.context else "short"
        self._factors = None
        for name in (f"rope_factors_{long}.weight", "rope_freqs.weight"):
            if (factors := model.vector(name)) is not None:
                check_factors(model.source.place, name, float(factors.min()))
                self._factors = factors
        self._tables: dict[tuple[Rope, int], tuple[Floats, Floats]] = {}

    def tables(self, rope: Rope, dims: int) -> tuple[Floats, Floats]:
        """(cosines, sines), each of shape (length, dims / 2): of the columns that turn."""
        key = rope, dims
        if key not in self._tables:
            shape = (self.length, dims // 2)
            cos, sin = np.empty(shape, np.float32), np.empty(shape, np.float32)
            _kernels.rope_table(
                dims,
                rope.base,
                cos,
                sin,
                scale=rope.scale,
                freq_factors=self._factors if rope.factored else None,
                ext_factor=float(rope.scaling == "yarn"),
                attn_factor=rope.attention,
                original_context=rope.context,
            )
            self._tables[key] = cos, sin
        return self._tables[key]
