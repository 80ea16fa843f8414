"""Why a base is not quantized: said of its tensors where they are planned and written, and then of the file."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from quantmill.errors import QuantmillError, UsageError, way
from quantmill.gguf.scales import first_broken
from quantmill.gguf.types import Type
from quantmill.reference.hparams import ModelFacts

if TYPE_CHECKING:
    from numpy.typing import NDArray


class TensorRefused(UsageError):
    """What was asked for cannot be done to a tensor."""


class NotFinite(QuantmillError):
    """A base or a result holds NaN or infinity."""


def no_scale(name: str, type_: Type, expert: int | None) -> NotFinite:
    where = f"{name}: its" if expert is None else f"{name}: expert {expert}'s"
    by = way("zero_as_one = true in [imatrix]", "--zero-as-one", "quantmill quantize --zero-as-one")
    return NotFinite(
        f"{where} importance is zero over whole blocks of {type_.name}, whose scales are then no numbers and which "
        f"llama-quantize refuses too; weigh such columns alike ({by}) or choose another type for it"
    )


def refuse_not_finite(name: str, type_: Type, piece: "NDArray[np.uint8]", at: int) -> None:
    """Raises NotFinite for a piece of a tensor that holds NaN or infinity; it begins at the tensor's byte `at`."""
    broken = first_broken(type_, piece)
    if broken is None:
        return
    weight = (at // type_.size + broken[0]) * type_.block
    if type_.name == "F16" and np.isinf(piece[2 * broken[0] : 2 * broken[0] + 2].view("<f2")[0]):
        raise NotFinite(
            f"{name} is infinite at weight {weight}, as weights above 65504 are in F16; "
            f"convert the model to BF16{way(' (`[base] type`)')}"
        )
    raise NotFinite(f"{name} is not finite at weight {weight}; the base is damaged, get it anew")


@contextmanager
def told_of(place: str) -> Iterator[None]:
    """Errors of a base begin with `place`, what its user calls it."""
    try:
        yield
    except (ModelFacts, TensorRefused, NotFinite) as error:
        error.args = (f"{place}: {error}",)
        raise
