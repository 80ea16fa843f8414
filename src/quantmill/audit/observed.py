"""What reading a tensor showed, and the pieces that it is read by."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from quantmill.audit.verdict import Spot
from quantmill.audit.ways import Way
from quantmill.gguf.types import Type

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Rows = NDArray[np.int64]


@dataclass
class Observed:
    """What reading a tensor showed, before the file's other tensors say what it means.

    `differing` of `blocks` have other bytes than `way` writes, `first` is the first of them; `outside` of those
    no rounding gives, `worst` is the first; of `untold` that cannot be told. `kinds`: of the arithmetics that write the
    same. `is_sure`: most bytes show with which importance the tensor was made.
    """

    name: str
    type: Type
    base: Type | None = None
    way: Way | None = None
    blocks: int = 0
    differing: int = 0
    outside: int = 0
    untold: int = 0
    first: Spot | None = None
    worst: Spot | None = None
    problem: str = ""
    has_vector: bool = False
    is_sure: bool = False
    kinds: set[int] = field(default_factory=set)
    rows: int = 0
    all_rows: int = 0
    sums: "NDArray[np.float64]" = field(default_factory=lambda: np.zeros(3))  # of x*x, y*y and x*y


@dataclass(frozen=True)
class RowPiece:
    """Rows of one matrix of a tensor: `rows`, by their numbers in the tensor."""

    rows: "Rows"
    matrix: int


Known = dict[tuple[str, str], dict[bytes, Observed]]  # by tensor and type, then by the digest of its bytes
