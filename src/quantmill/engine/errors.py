"""What keeps a text from going through a model: one exception per broken promise, carrying its facts."""

from dataclasses import dataclass

from quantmill.architectures.errors import ForwardError
from quantmill.errors import UsageError


@dataclass(eq=False)
class NotFinite(ForwardError):
    """`what` is a tensor's name with the row of its first bad weight, or a layer whose values overflow."""

    place: str
    what: str

    def __str__(self) -> str:
        return f"{self.place}: {self.what}"


@dataclass(eq=False)
class StrangeToken(ForwardError):
    token: int
    n_vocab: int

    def __str__(self) -> str:
        return f"the text has the token id {self.token}, but the model has {self.n_vocab} tokens; use its own tokenizer"


@dataclass(eq=False)
class TooLittleMemory(UsageError):
    given: int
    needed: int

    def __str__(self) -> str:
        return f"{self.given} bytes of memory are too few for this model and chunk length; {self.needed} would do"
