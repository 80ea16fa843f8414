"""Choosing the next token from logits."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantmill.errors import UsageError


@dataclass(frozen=True)
class Sampling:
    """How a token is drawn.

    `temperature`: 0 is greedy; the rest is for any other
    `top_k`: so many of the likeliest tokens are looked at, 0 for all
    `top_p`: of them, those are drawn from that first reach it together
    `seed`: what starts the generator
    """

    temperature: float = 0.0
    top_k: int = 40
    top_p: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= 100:
            raise UsageError(f"a temperature of {self.temperature:g} is not right; give one from 0 to 100")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"a top-p of {self.top_p:g} is not right; give one above 0, at most 1")
        if self.top_k < 0 or self.seed < 0:
            raise UsageError("top-k and the seed are whole numbers from 0")


class Sampler:
    """Draws tokens one after the other."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._random = np.random.Generator(np.random.PCG64(sampling.seed))

    def next(self, logits: NDArray[np.float32]) -> int:
        """The next token, from the logits of shape (vocabulary,)."""
        if self._sampling.temperature == 0:
            return int(logits.argmax())
        count = min(self._sampling.top_k or len(logits), len(logits))
        order = np.argsort(-logits, kind="stable")[:count]
        scaled = (logits[order].astype(np.float64) - float(logits[order[0]])) / self._sampling.temperature
        weights = np.exp(scaled)
        weights /= weights.sum()
        kept = int(np.searchsorted(np.cumsum(weights), self._sampling.top_p)) + 1
        weights = weights[:kept] / weights[:kept].sum()
        drawn = np.searchsorted(np.cumsum(weights), self._random.random(), side="right")
        return int(order[min(int(drawn), len(weights) - 1)])
