"""What can be wrong when quality is measured."""

from quantmill.errors import QuantmillError, UsageError


class QualityError(QuantmillError):
    """A file's quality cannot be measured."""


class NotOneModel(QualityError):
    """Files that are compared, and not of one model: an error of use."""

    exit_code = UsageError.exit_code


class SharedPassage(UsageError, QualityError):
    """A text to measure with that the importance matrix has seen."""
