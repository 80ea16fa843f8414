"""What the tests of the forward pass's kernels share."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from quantmill import _kernels

LEVELS = _kernels.forward_levels()


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


@contextmanager
def every_level() -> Iterator[Iterator[str]]:
    """The levels' names, each set as it comes; the one before is set again at the end."""
    before = _kernels.isa()

    def levels() -> Iterator[str]:
        for level in LEVELS:
            _kernels.set_isa(level)
            yield level

    try:
        yield levels()
    finally:
        _kernels.set_isa(before)


def on_every_level(run: Callable[[int], np.ndarray], threads: Sequence[int] = (1, 2, 3)) -> np.ndarray:
    """What run(threads) returns, after checking that its bits depend on neither level nor threads."""
    with every_level() as levels:
        results = {(level, count): run(count) for level in levels for count in threads}
    first = next(iter(results.values()))
    for case, result in results.items():
        assert result.tobytes() == first.tobytes(), case
    return first
