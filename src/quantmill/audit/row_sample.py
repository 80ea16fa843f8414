"""Which rows of each tensor an audit reads, and what reading them proves.

The rows of a tensor are drawn without replacement, so whoever changed some cannot know which are read. Of n rows m are
drawn; r changed ones are all missed with the hypergeometric chance C(n-r, m) / C(n, m), at most (1 - m/n)^r (W.
Hoeffding, Probability inequalities for sums of bounded random variables, 1963, section 6). Of several tensors the
chances multiply, so that r rows anywhere are missed with at most (1 - share)^r, if each tensor's m/n is at least the
share.
"""

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

ONE_IN = 1000  # rows of which one is changed, in what an audit says of its chance


@dataclass(frozen=True)
class RowSample:
    """A share of the rows of every tensor, at least one, which the seed and the tensor's name decide."""

    share: float
    seed: int

    def rows(self, name: str, count: int) -> "NDArray[np.int64]":
        """The rows to read of a tensor of `count`, in order."""
        wanted = math.ceil(self.share * count)
        if wanted >= count:
            return np.arange(count)
        digest = hashlib.sha256(f"{self.seed}\0{name}".encode(errors="surrogatepass")).digest()
        drawn = np.random.default_rng(int.from_bytes(digest, "little")).choice(count, wanted, False, shuffle=False)
        return np.sort(drawn)

    def chance(self, rows: int) -> float:
        """At least this is the chance to read a changed row, where one in a thousand of a file's rows is changed."""
        return 1 - (1 - min(self.share, 1.0)) ** math.ceil(rows / ONE_IN)
