"""What can be wrong with the search for a mix."""

from quantmill.errors import QuantmillError, UsageError


class NotSearchable(QuantmillError):
    """A model whose tensors cannot be measured one by one."""


class TargetTooSmall(UsageError):
    """A size that no mix of the allowed types reaches."""
