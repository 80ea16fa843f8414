"""How far a model's predictions are from its base's, token by token, over the same text.

The logits of both are made chunk by chunk and compared at once, so that no file of them is ever written. Of a
vocabulary of 152,000 tokens that would be 0.3 MB for each token of the text.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from quantmill import _kernels
from quantmill.quality.errors import QualityError
from quantmill.statistics import exp, mean, percentile, perplexity, root_mean_square, rounded, standard_error

Floats = NDArray[np.float32]


class Predictions(Protocol):
    """A model's predictions of a text: `chunks` chunks with `rows` tokens each that count."""

    @property
    def chunks(self) -> int: ...

    @property
    def rows(self) -> int: ...

    def logits(self, first: int, last: int) -> Floats:
        """Of the chunks `first` to `last`, shape ((last - first) * rows, n_vocab)."""
        ...


@dataclass(frozen=True)
class Divergence:
    """How far a file's predictions are from the base's; each `_error` is one standard error.

    `kld`: KL divergence of the base's distribution to the file's, in nats a token
    `kld_error`: that of the mean
    `top1`: the share of tokens for which both hold the same token most likely
    `delta_p_mean`: the mean of how much more probability the file gives to the text's own token
    `delta_p_rms`: the root mean square of the same
    """

    perplexity: float
    perplexity_error: float
    kld: dict[str, float]
    kld_error: float
    top1: float
    top1_error: float
    delta_p_mean: float
    delta_p_rms: float
    tokens: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, numbers with six digits."""
        return {
            "perplexity": rounded(self.perplexity),
            "perplexity_error": rounded(self.perplexity_error),
            "kld": {name: rounded(value) for name, value in self.kld.items()},
            "kld_error": rounded(self.kld_error),
            "top1": rounded(self.top1),
            "top1_error": rounded(self.top1_error),
            "delta_p_mean": rounded(self.delta_p_mean),
            "delta_p_rms": rounded(self.delta_p_rms),
            "tokens": self.tokens,
        }


_SHARES = {"median": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}


def compare(
    base: Predictions,
    other: Predictions,
    targets: NDArray[np.int32],
    threads: int,
    progress: Callable[[int, int], None],
) -> Divergence:
    """The quality of `other`. `targets` are the tokens to predict, int32 of shape (chunks, rows); `progress` counts
    chunks. Raises a QualityError when logits are not finite."""
    assert (base.chunks, base.rows) == (other.chunks, other.rows) == targets.shape
    divergence, losses = np.empty(targets.shape), np.empty(targets.shape)
    base_losses, agreed = np.empty(targets.shape), 0
    top, base_top = np.empty(base.rows, np.int32), np.empty(base.rows, np.int32)
    for i in range(base.chunks):
        reference, logits = base.logits(i, i + 1), other.logits(i, i + 1)
        _kernels.kld(reference, logits, divergence[i], threads)
        _kernels.nll(reference, targets[i], base_losses[i], base_top, threads)
        _kernels.nll(logits, targets[i], losses[i], top, threads)
        agreed += int((top == base_top).sum())
        if not (np.isfinite(divergence[i]).all() and np.isfinite(losses[i]).all()):
            raise QualityError(f"chunk {i} of the text: logits are not finite; a weight or a scale is damaged")
        progress(i + 1, base.chunks)
    value, error = perplexity(losses.reshape(-1).tolist())
    ordered = sorted(divergence.reshape(-1).tolist())
    kld = {"mean": mean(ordered)} | {name: percentile(ordered, share) for name, share in _SHARES.items()}
    pairs = zip(losses.reshape(-1).tolist(), base_losses.reshape(-1).tolist(), strict=True)
    moved = [exp(-ours) - exp(-theirs) for ours, theirs in pairs]
    same = [1.0] * agreed + [0.0] * (targets.size - agreed)
    return Divergence(
        perplexity=value,
        perplexity_error=error,
        kld=kld | {"max": ordered[-1]},
        kld_error=standard_error(ordered, kld["mean"]),
        top1=agreed / targets.size,
        top1_error=standard_error(same, agreed / targets.size),
        delta_p_mean=mean(moved),
        delta_p_rms=root_mean_square(moved),
        tokens=targets.size,
    )
