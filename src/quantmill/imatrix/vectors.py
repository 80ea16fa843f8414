"""What a quantizer reads of an importance matrix: one vector a tensor."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from quantmill.errors import QuantmillError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray


class ImatrixError(QuantmillError):
    """An imatrix file is damaged, or holds what no quantizer can use."""


class ImatrixUsageError(UsageError, ImatrixError):
    """What is named as an imatrix file is none."""


@dataclass(frozen=True)
class Imatrix:
    """`vectors` are float32, one value a column, a mixture's experts one after another; means, not sums.

    `dataset` is the calibration file's name as the file holds it (bytes, since it is a path), empty when it has none;
    `chunks` is 0 when the file does not say.
    """

    vectors: Mapping[str, "NDArray[np.float32]"]
    dataset: bytes = b""
    chunks: int = 0

    def select(self, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> "Imatrix":
        """Without the tensors whose names contain one of `exclude`; given `include`, only those that contain one."""
        include, exclude = list(include), list(exclude)
        kept = {
            name: vector
            for name, vector in self.vectors.items()
            if not any(part in name for part in exclude) and (not include or any(part in name for part in include))
        }
        return Imatrix(kept, self.dataset, self.chunks)


def checked(path: str, found: Imatrix) -> Imatrix:
    """`found`, when a quantizer can use it: finite and without negative values; else ImatrixError."""
    for name, vector in found.vectors.items():
        if not np.isfinite(vector).all():
            raise ImatrixError(f"{path}: the importance vector of {name} is not finite; compute the imatrix anew")
        if (vector < 0).any():  # a kernel's searches need weights of one sign
            raise ImatrixError(
                f"{path}: the importance vector of {name} has a negative value, which no sum of squares is; "
                "compute the imatrix anew"
            )
    return found
