"""What can be wrong when quality is measured."""

from quantmill.errors import QuantmillError


class QualityError(QuantmillError):
    """A file's quality cannot be measured."""


class GateError(QuantmillError):
    """A file is measured and not as good as the recipe asks for."""
