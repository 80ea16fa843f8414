"""What can be wrong when quality is measured."""

from quantmill.errors import QuantmillError


class QualityError(QuantmillError):
    """A file's quality cannot be measured."""
