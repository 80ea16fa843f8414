"""What keeps a text from going through a model, beside the model itself (architectures/errors.py)."""

from dataclasses import dataclass

from quantmill.architectures.errors import ForwardError
from quantmill.errors import UsageError


def not_finite(place: str, what: str) -> ForwardError:
    """`what` is a tensor's name with the row of its first bad weight, or a layer whose values overflow."""
    return ForwardError(f"{place}: {what}")


class TextError(UsageError, ForwardError):
    """A text that cannot be what it is named for, as a whole or in chunks of the size that is asked for."""


@dataclass(eq=False)
class TooLittleMemory(UsageError):
    given: int
    needed: int

    def __str__(self) -> str:
        return f"{self.given} bytes of memory are too few for this model and chunk length; {self.needed} would do"
