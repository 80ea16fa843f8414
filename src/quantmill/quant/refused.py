"""Why a base is not quantized: said of its tensors where they are planned and written, and then of the file."""

from collections.abc import Iterator
from contextlib import contextmanager

from quantmill.errors import QuantmillError, UsageError
from quantmill.gguf.types import Type
from quantmill.quant.mix import WidthDoesNotFit
from quantmill.reference.hparams import ModelFacts


class TensorRefused(UsageError):
    """What was asked for cannot be done to a tensor."""


class NotFinite(QuantmillError):
    """A base or a result holds NaN or infinity."""


def no_scale(name: str, type_: Type, expert: int | None) -> NotFinite:
    where = f"{name}: its" if expert is None else f"{name}: expert {expert}'s"
    return NotFinite(
        f"{where} importance is zero over whole blocks of {type_.name}, whose scales are then no numbers and which "
        "llama-quantize refuses too; weigh such columns alike (--zero-as-one; in a recipe, zero_as_one in [imatrix]) "
        "or choose another type for it"
    )


@contextmanager
def told_of(place: str) -> Iterator[None]:
    """Errors of a base begin with `place`, what its user calls it."""
    try:
        yield
    except (ModelFacts, WidthDoesNotFit, TensorRefused, NotFinite) as error:
        error.args = (f"{place}: {error}",)
        raise
