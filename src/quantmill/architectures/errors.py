"""What can be wrong with a model, as it is converted and as it is evaluated."""

from quantmill.errors import QuantmillError, UsageError, way


class ModelError(QuantmillError):
    """A base model that cannot be converted, by what it says that it is: an error of use."""

    exit_code = UsageError.exit_code


class DamagedModel(ModelError):
    """A base model whose files are damaged, or not those of one model: an error of work."""

    exit_code = QuantmillError.exit_code


class TokenizerError(DamagedModel):
    """The tokenizer's files cannot be understood. The message is the sentence."""


class UnknownVocabulary(UsageError, TokenizerError):
    """A file without a vocabulary, or with one of a kind that is not tokenized here."""


class UnknownPreTokenizer(ModelError):
    """No name is known for a tokenizer's own way of cutting text into words."""

    def __init__(self, digest: str, candidates: str = "") -> None:
        choice = f" ({candidates})" if candidates else ""
        by = way("`[base] pre_tokenizer` in the recipe", "--pre-tokenizer", "`quantmill convert --pre-tokenizer`")
        super().__init__(
            f"tokenizer.json cuts text into words in a way that has no known llama.cpp name (pattern {digest}); "
            f"name it by {by}{choice}"
        )


class ForwardError(QuantmillError):
    """A model, a text or a disk that a forward pass cannot do with."""


class CannotEvaluate(ForwardError):
    """A model that a forward pass is not made for, by what it says that it is: an error of use."""

    exit_code = UsageError.exit_code


class NotLoadable(QuantmillError):
    """A model that llama.cpp refuses to load."""


class UnsuitableModel(UsageError, ModelError, ForwardError):
    """What is named as a model is none that can be used here."""


def missing_weights(place: str, name: str, architecture: str) -> ForwardError:
    return ForwardError(f"{place}: lacks the tensor {name!r}, which {architecture} needs; convert it anew")
