"""Rotary positions of a chunk as tables of cosines and sines."""

import numpy as np

from quantmill import _kernels
from quantmill.architectures.errors import ForwardError
from quantmill.architectures.hyperparameters import Hyper
from quantmill.architectures.rope_scaling import Rope
from quantmill.engine.buffers import Floats
from quantmill.engine.model import Model


class Positions:
    """Tables for the positions 0 to `length` - 1 of every chunk, made once for each kind of layer."""

    def __init__(self, model: Model, length: int) -> None:
        self.length = length
        self._hyper: Hyper = model.hyper
        long = "long" if length > self._hyper.rope.context else "short"
        factors = model.vector("rope_freqs.weight")
        self._factors = model.vector(f"rope_factors_{long}.weight") if factors is None else factors
        if self._factors is not None and not (self._factors > 0).all():
            raise ForwardError(
                f"{model.source.place}: a factor of the rotary positions (rope_freqs.weight or rope_factors) is not "
                "above 0; fetch or convert the model anew"
            )
        self._tables: dict[Rope, tuple[Floats, Floats]] = {}

    def tables(self, rope: Rope) -> tuple[Floats, Floats]:
        """(cosines, sines), each of shape (length, rotated / 2)."""
        if rope not in self._tables:
            shape = (self.length, self._hyper.rotated // 2)
            cos, sin = np.empty(shape, np.float32), np.empty(shape, np.float32)
            _kernels.rope_table(
                self._hyper.rotated,
                rope.base,
                cos,
                sin,
                scale=rope.scale,
                freq_factors=self._factors,
                ext_factor=float(rope.scaling == "yarn"),
                attn_factor=rope.attention,
                original_context=rope.context,
            )
            self._tables[rope] = cos, sin
        return self._tables[rope]
