"""Why a base is not quantized: said of its tensors where they are planned and written, and then of the file."""

from collections.abc import Iterator
from contextlib import contextmanager

from quantmill.errors import QuantmillError, UsageError
from quantmill.quant.mix import WidthDoesNotFit
from quantmill.reference.hparams import ModelFacts


class TensorRefused(UsageError):
    """What was asked for cannot be done to a tensor."""


class NotFinite(QuantmillError):
    """A base or a result holds NaN or infinity."""


@contextmanager
def told_of(place: str) -> Iterator[None]:
    """Errors of a base begin with `place`, what its user calls it."""
    try:
        yield
    except (ModelFacts, WidthDoesNotFit, TensorRefused, NotFinite) as error:
        error.args = (f"{place}: {error}",)
        raise
