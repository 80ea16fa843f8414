"""What can be wrong with a model, as it is converted and as it is evaluated."""

from dataclasses import dataclass

from quantmill.errors import QuantmillError


class ModelError(QuantmillError):
    """A base model that cannot be converted."""


class TokenizerError(ModelError):
    """The tokenizer's files cannot be understood. The message is the sentence."""


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
    """A model, a text or a disk that a forward pass cannot do with."""


def missing_weights(place: str, name: str, architecture: str) -> ForwardError:
    return ForwardError(f"{place}: lacks the tensor {name!r}, which {architecture} needs; convert it anew")
