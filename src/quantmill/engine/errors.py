"""What keeps a model from being evaluated: one exception per broken promise, carrying its facts."""

from dataclasses import dataclass

from quantmill.errors import QuantmillError, UsageError


class ForwardError(QuantmillError):
    """A model that cannot be evaluated."""


class BadHyperparameter(ForwardError):
    """The metadata lacks what the forward pass needs or contradicts itself. The message is the sentence."""


@dataclass(eq=False)
class UnknownModel(ForwardError):
    place: str
    name: str
    known: str

    def __str__(self) -> str:
        return f"{self.place}: the architecture {self.name!r} cannot be evaluated; {self.known} can"


@dataclass(eq=False)
class MissingWeights(ForwardError):
    place: str
    name: str
    architecture: str

    def __str__(self) -> str:
        return f"{self.place}: lacks the tensor {self.name!r}, which {self.architecture} needs; convert it anew"


@dataclass(eq=False)
class StrangeWeights(ForwardError):
    place: str
    name: str
    architecture: str

    def __str__(self) -> str:
        return f"{self.place}: holds a tensor {self.name!r}, for which this {self.architecture} has no place"


@dataclass(eq=False)
class MisshapenWeights(ForwardError):
    place: str
    name: str
    found: tuple[int, ...]
    expected: tuple[int, ...]

    def __str__(self) -> str:
        return (
            f"{self.place}: the tensor {self.name!r} has shape {list(self.found)}; "
            f"by the metadata it should be {list(self.expected)}"
        )


@dataclass(eq=False)
class UnusableType(ForwardError):
    place: str
    name: str
    type: str

    def __str__(self) -> str:
        return f"{self.place}: the tensor {self.name!r} is {self.type}, which holds no weights; convert it anew"


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
