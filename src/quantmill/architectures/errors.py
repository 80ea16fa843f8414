"""What can be wrong with a base model in Hugging Face layout: one exception per broken promise, carrying its facts."""

from dataclasses import dataclass

from quantmill.errors import QuantmillError, UsageError


class ModelError(QuantmillError):
    """A base model that cannot be converted."""


class ConfigError(ModelError):
    """config.json lacks what is needed or contradicts itself. The message is the sentence."""


class TokenizerError(ModelError):
    """The tokenizer's files cannot be understood. The message is the sentence."""


class NoName(UsageError):
    """Neither the recipe nor the model's files name the model."""

    def __str__(self) -> str:
        return "nothing names the model: the recipe's `[base] name` would"


@dataclass(eq=False)
class UnsupportedArchitecture(ModelError):
    name: str
    known: str

    def __str__(self) -> str:
        return f"config.json: the architecture {self.name!r} cannot be converted; {self.known} can"


@dataclass(eq=False)
class MissingTensor(ModelError):
    name: str
    count: int
    architecture: str

    def __str__(self) -> str:
        more = f" and {self.count - 1} more" if self.count > 1 else ""
        return f"the safetensors files lack the tensor {self.name!r}{more}, which {self.architecture} needs"


@dataclass(eq=False)
class UnexpectedTensor(ModelError):
    name: str
    architecture: str

    def __str__(self) -> str:
        return f"the safetensors files hold a tensor {self.name!r}, for which {self.architecture} has no place"


@dataclass(eq=False)
class WrongShape(ModelError):
    name: str
    file: str
    found: tuple[int, ...]
    expected: tuple[int, ...]

    def __str__(self) -> str:
        return (
            f"{self.file}: the tensor {self.name!r} has shape {list(self.found)}; "
            f"by config.json it should be {list(self.expected)}"
        )


@dataclass(eq=False)
class UnsupportedDtype(ModelError):
    name: str
    file: str
    dtype: str

    def __str__(self) -> str:
        return f"{self.file}: the tensor {self.name!r} is {self.dtype}; BF16, F16, F32 and F64 can be converted"


@dataclass(eq=False)
class UnknownPreTokenizer(ModelError):
    """No name is known for a tokenizer's own way of cutting text into words."""

    digest: str
    candidates: str = ""

    def __str__(self) -> str:
        choice = f" ({self.candidates})" if self.candidates else ""
        return (
            f"tokenizer.json cuts text into words in a way that has no known llama.cpp name (pattern {self.digest}); "
            f"name it by `[base] pre_tokenizer` in the recipe{choice}"
        )


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
